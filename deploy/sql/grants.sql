-- What Windlass may do in Airflow's database, and what Airflow may do with Windlass's tables. No more than the statements
-- use: tests run the daemon's as the role `windlass` with these grants alone.
--
-- Run it with psql, after `windlass migrate` and after every later one, as the owner of the tables (or a superuser):
--
--   psql -f grants.sql                                    roles windlass and airflow, Airflow's tables in public
--   psql -f grants.sql -v windlass_role=w -v airflow_role=a -v airflow_schema=s
--
-- It makes no role: how they log in (password, IAM, certificate) is yours to say, for example
--   CREATE ROLE windlass LOGIN PASSWORD '...';

\set ON_ERROR_STOP on
\if :{?windlass_role} \else \set windlass_role windlass \endif
\if :{?airflow_role} \else \set airflow_role airflow \endif
\if :{?airflow_schema} \else \set airflow_schema public \endif

BEGIN;

-- The daemon, on Airflow's tables: it reads the columns that say what is queued, how it stands and what to run, and
-- writes one column, which names the pod.
GRANT USAGE ON SCHEMA :"airflow_schema" TO :"windlass_role";
GRANT SELECT (version_num) ON :"airflow_schema".alembic_version TO :"windlass_role";
GRANT SELECT (dag_id, fileloc, is_active, is_subdag, owners, root_dag_id) ON :"airflow_schema".dag TO :"windlass_role";
GRANT SELECT (dag_id, name) ON :"airflow_schema".dag_tag TO :"windlass_role";
GRANT SELECT (dag_id, run_id, run_type, state) ON :"airflow_schema".dag_run TO :"windlass_role";
GRANT SELECT (id, job_type, state, latest_heartbeat) ON :"airflow_schema".job TO :"windlass_role";
GRANT SELECT (pool) ON :"airflow_schema".slot_pool TO :"windlass_role";
GRANT SELECT (dag_id, task_id, run_id, map_index, state, try_number, hostname, job_id, operator, pool, queue,
        priority_weight, queued_dttm, queued_by_job_id, executor, executor_config, external_executor_id),
    UPDATE (external_executor_id)
    ON :"airflow_schema".task_instance TO :"windlass_role";

-- The daemon, on its own tables.
GRANT USAGE ON SCHEMA windlass TO :"windlass_role";
GRANT SELECT ON windlass.schema_migrations, windlass.installation TO :"windlass_role";
GRANT SELECT, UPDATE ON windlass.term TO :"windlass_role";
GRANT SELECT, DELETE ON windlass.scheduler TO :"windlass_role";
-- UPDATE: rows are locked before they are deleted.
GRANT SELECT, UPDATE, DELETE ON windlass.handover TO :"windlass_role";
GRANT SELECT, INSERT, UPDATE, DELETE ON windlass.launch TO :"windlass_role";

-- The plugin, which runs in Airflow's processes as Airflow's own role: registers, hands over, and marks what it took.
GRANT USAGE ON SCHEMA windlass TO :"airflow_role";
GRANT SELECT ON windlass.term TO :"airflow_role";
GRANT SELECT, INSERT, UPDATE ON windlass.scheduler TO :"airflow_role";
GRANT SELECT, INSERT ON windlass.handover TO :"airflow_role";
GRANT SELECT, UPDATE (withdrawn_at, callback_sent_at, delivered_at) ON windlass.launch TO :"airflow_role";

COMMIT;
