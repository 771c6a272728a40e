# Airflow's image with the plugin, for installations that build one anyway (else: ConfigMap, see README.md).
#   docker build -f deploy/airflow.Dockerfile --build-arg AIRFLOW_IMAGE=apache/airflow:2.11.2 -t airflow-windlass .
ARG AIRFLOW_IMAGE=apache/airflow:2.11.2
FROM ${AIRFLOW_IMAGE}
COPY --chown=airflow:0 scheduler-bridge/python /home/airflow/windlass-airflow
# --no-deps: the only dependency is Airflow itself, and pip must not move its version.
RUN pip install --no-cache-dir --no-deps /home/airflow/windlass-airflow \
    && python -c "import windlass_airflow" \
    && rm -rf /home/airflow/windlass-airflow
