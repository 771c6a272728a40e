"""WindlassExecutor: Airflow's side of Windlass.

Workers, webserver, triggerer and DAG processor import this package too (Airflow loads the executor class for its
attributes), so importing it does nothing and opens nothing.
"""

from __future__ import annotations

from windlass_airflow.executor import WindlassExecutor
from windlass_airflow.version import __version__

__all__ = ["WindlassExecutor", "__version__"]
