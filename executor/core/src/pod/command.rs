//! The worker's command line in Airflow 2.x.

use crate::ids::TaskKey;

/// What Airflow puts before a path below its DAG folder: the worker's own folder may be elsewhere.
const DAGS_FOLDER: &str = "DAGS_FOLDER";

/// `TaskInstance.generate_command(local=True)`, as the scheduler hands it to an executor. `file_path` is
/// [`dag_file_argument`] of the DAG's `fileloc`.
pub fn worker_command(key: &TaskKey, file_path: Option<&str>) -> Vec<String> {
    let mut command: Vec<String> =
        ["airflow", "tasks", "run", &key.dag_id, &key.task_id, &key.run_id, "--local"]
            .map(str::to_owned)
            .into();
    if let Some(path) = file_path.filter(|path| !path.is_empty()) {
        command.extend(["--subdir".to_owned(), path.to_owned()]);
    }
    if key.map_index != -1 {
        command.extend(["--map-index".to_owned(), key.map_index.to_string()]);
    }
    command
}

/// `--subdir` for a DAG file: `DagModel.relative_fileloc` with `DAGS_FOLDER/` before it, or the path itself when it
/// does not lie below `dags_folder`. Paths are compared as pathlib does: part by part, `..` kept, no disk read.
pub fn dag_file_argument(fileloc: &str, dags_folder: &str) -> String {
    let (file, folder) = (PurePath::parse(fileloc), PurePath::parse(dags_folder));
    if file.root == folder.root && file.parts.starts_with(&folder.parts) {
        return below_dags_folder(&file.parts[folder.parts.len()..]);
    }
    if file.root.is_empty() { below_dags_folder(&file.parts) } else { file.text() }
}

fn below_dags_folder(parts: &[&str]) -> String {
    let mut all = vec![DAGS_FOLDER];
    all.extend(parts);
    all.join("/")
}

/// `pathlib.PurePosixPath`: single dots and repeated slashes gone; POSIX keeps exactly two leading slashes apart.
struct PurePath<'a> {
    root: &'static str,
    parts: Vec<&'a str>,
}

impl<'a> PurePath<'a> {
    fn parse(text: &'a str) -> Self {
        let slashes = text.len() - text.trim_start_matches('/').len();
        let root = match slashes {
            0 => "",
            2 => "//",
            _ => "/",
        };
        Self { root, parts: text.split('/').filter(|part| !part.is_empty() && *part != ".").collect() }
    }

    fn text(&self) -> String {
        format!("{}{}", self.root, self.parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dag_file_is_named_below_the_dag_folder() {
        let cases = [
            ("/opt/airflow/dags/a/b.py", "/opt/airflow/dags/", "DAGS_FOLDER/a/b.py"),
            ("/opt/airflow/dags//./b.py", "/opt/airflow/dags", "DAGS_FOLDER/b.py"),
            ("/opt/airflow/dags", "/opt/airflow/dags", "DAGS_FOLDER"),
            ("/opt/airflow/dags2/b.py", "/opt/airflow/dags", "/opt/airflow/dags2/b.py"),
            ("/opt/airflow/dags/../b.py", "/opt/airflow/dags", "DAGS_FOLDER/../b.py"),
            ("a/b.py", "/opt/airflow/dags", "DAGS_FOLDER/a/b.py"),
            ("//net/dags/b.py", "/net/dags", "//net/dags/b.py"),
            ("///net/dags/b.py", "/net/dags", "DAGS_FOLDER/b.py"),
        ];
        for (file, folder, want) in cases {
            assert_eq!(dag_file_argument(file, folder), want, "{file} in {folder}");
        }
    }
}
