//! `pod_mutation_hook`: Python of the users', which a helper beside the scheduler calls for us.
//!
//! One connection, one batch at a time: a line of JSON with pods, a line with what became of each
//! (`windlass_airflow/pod_mutation.py` is the other end). A launch waits for its pod a moment only, since its create
//! must begin and end inside the term; an answer that comes later is kept for its next try.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use windlass_core::outcome::Reason;

use crate::config::Config;
use crate::config::settings::MutationHook;

/// Beside the wake socket; the plugin listens there (`windlass_airflow/pod_mutation_socket.py`).
const SOCKET: &str = "pod-mutation.sock";
/// A create waits this long for its pod.
const WAIT: Duration = Duration::from_millis(1_000);
/// A batch that takes longer is given up: a hook that hangs must not hold all pods for ever.
const BATCH: Duration = Duration::from_secs(30);
/// Pods of one batch.
const BATCH_MAX: usize = 64;
/// An answer that nobody came for is kept this long.
const KEEP: Duration = Duration::from_secs(120);
/// Longest answer, in bytes: 64 pods of the largest size that etcd takes.
const ANSWER_MAX: u64 = 64 * 1_536 * 1_024;

const CHOOSE: &str = "the scheduler has a pod_mutation_hook (airflow_local_settings.py or a policy plugin) and nothing \
                      says what to do with it: set pod.mutation-hook to `helper` to have it called, or to `ignore` to \
                      make pods without it";

/// Why there is no pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// Not now; the remedy.
    NotNow(String),
    /// Not as the cluster is now: the outcome of the launch, if it stays so.
    NotYet(Reason, String),
    /// Not at all: the outcome of the launch.
    Never(Reason, String),
}

impl From<(Reason, String)> for Unmade {
    fn from((reason, message): (Reason, String)) -> Self {
        Self::Never(reason, message)
    }
}

/// What is done about the hook.
pub struct Hook {
    choice: MutationHook,
    socket: PathBuf,
    /// Started with the first question: commands that ask none need no runtime.
    asks: Mutex<Option<mpsc::Sender<Question>>>,
    late: Mutex<HashMap<String, Late>>,
}

struct Question {
    pod: Value,
    answer: oneshot::Sender<Result<Value, Unmade>>,
}

/// Asked for and not answered in time.
struct Late {
    since: Instant,
    pod: Value,
    answer: oneshot::Receiver<Result<Value, Unmade>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Pods(Vec<Became>),
    /// Of the whole batch.
    Error(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Became {
    Pod(Value),
    Error(String),
}

impl Hook {
    /// As the configuration has it.
    pub fn of(config: &Config) -> Self {
        Self::new(config.own.pod.mutation_hook, &config.own.wake.socket)
    }

    /// Pods stay as they are.
    pub fn none() -> Self {
        Self::new(MutationHook::Ignore, Path::new(""))
    }

    /// `wake_socket` names the folder that is shared with the scheduler.
    pub fn new(choice: MutationHook, wake_socket: &Path) -> Self {
        let socket = wake_socket.with_file_name(SOCKET);
        Self { choice, socket, asks: Mutex::default(), late: Mutex::default() }
    }

    /// What the hook makes of a rendered pod.
    pub async fn apply(&self, pod: Value) -> Result<Value, Unmade> {
        match self.choice {
            MutationHook::Refuse => Err(Unmade::NotNow(CHOOSE.into())),
            MutationHook::Ignore => Ok(pod),
            MutationHook::Helper => self.ask(pod, WAIT).await,
        }
    }

    /// Whether the helper answers. It may have to be started first.
    pub async fn probe(&self) -> Result<(), String> {
        match timeout(BATCH, exchange(&mut None, &self.socket, &[])).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(self::late(&self.socket)),
        }
    }

    async fn ask(&self, pod: Value, wait: Duration) -> Result<Value, Unmade> {
        // Unique for launch and attempt.
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut answer = match self.take_late(&name, &pod) {
            Some(answer) => answer,
            None => self.send(pod.clone())?,
        };
        match timeout(wait, &mut answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(Unmade::NotNow(self::late(&self.socket)))),
            Err(_) => {
                let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
                late.retain(|_, kept| kept.since.elapsed() < KEEP);
                late.insert(name, Late { since: Instant::now(), pod, answer });
                Err(Unmade::NotNow(format!(
                    "pod_mutation_hook has not answered within {} ms; its answer is awaited",
                    wait.as_millis()
                )))
            }
        }
    }

    fn take_late(&self, name: &str, pod: &Value) -> Option<oneshot::Receiver<Result<Value, Unmade>>> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        // A template that changed meanwhile makes another pod.
        late.remove(name).filter(|kept| kept.pod == *pod).map(|kept| kept.answer)
    }

    fn send(&self, pod: Value) -> Result<oneshot::Receiver<Result<Value, Unmade>>, Unmade> {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        let asks = asks.get_or_insert_with(|| {
            let (asks, questions) = mpsc::channel(1_024);
            tokio::spawn(serve(self.socket.clone(), questions));
            asks
        });
        let (answer, answered) = oneshot::channel();
        asks.try_send(Question { pod, answer })
            .map_err(|_| Unmade::NotNow("more pods wait for pod_mutation_hook than it can take".into()))?;
        Ok(answered)
    }
}

/// Takes what waits, asks, answers; ends with the hook.
async fn serve(socket: PathBuf, mut questions: mpsc::Receiver<Question>) {
    let mut connection = None;
    let mut batch = Vec::new();
    while questions.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (pods, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|ask| (ask.pod, ask.answer)).unzip();
        let became = match timeout(BATCH, exchange(&mut connection, &socket, &pods)).await {
            Ok(became) => became,
            Err(_) => Err(late(&socket)),
        };
        match became {
            Ok(became) => {
                for (answer, became) in answers.into_iter().zip(became) {
                    // A launch that was given up meanwhile does not wait any more.
                    let _ = answer.send(became.pod());
                }
            }
            Err(why) => {
                connection = None;
                for answer in answers {
                    let _ = answer.send(Err(Unmade::NotNow(why.clone())));
                }
            }
        }
    }
}

impl Became {
    fn pod(self) -> Result<Value, Unmade> {
        match self {
            Self::Pod(pod) => Ok(pod),
            Self::Error(error) => {
                Err(Unmade::Never(Reason::MutationHookFailed, format!("pod_mutation_hook failed: {error}")))
            }
        }
    }
}

/// One batch. An error is a sentence for the operator.
async fn exchange(
    connection: &mut Option<BufReader<UnixStream>>,
    socket: &Path,
    pods: &[Value],
) -> Result<Vec<Became>, String> {
    let mut line = json!({ "pods": pods }).to_string();
    line.push('\n');
    let failed = |error: io::Error| away(socket, &error);
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(BufReader::new(UnixStream::connect(socket).await.map_err(failed)?)),
    };
    stream.write_all(line.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_until(b'\n', &mut answer).await.map_err(failed)?;
    if answer.last() != Some(&b'\n') {
        return Err(away(socket, &io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Pods(became)) if became.len() == pods.len() => Ok(became),
        Ok(Answer::Pods(became)) => {
            Err(format!("the helper of pod_mutation_hook gave {} pods for {}", became.len(), pods.len()))
        }
        Ok(Answer::Error(error)) => Err(format!("the helper of pod_mutation_hook cannot work: {error}")),
        Err(error) => Err(format!("the helper of pod_mutation_hook answers with no JSON of ours: {error}")),
    }
}

fn away(socket: &Path, error: &io::Error) -> String {
    format!(
        "the helper of pod_mutation_hook cannot be reached at `{}`: {error}; see that the scheduler's container shares \
         the folder and runs windlass-airflow of this release, and the helper's lines in the scheduler's log",
        socket.display()
    )
}

fn late(socket: &Path) -> String {
    format!(
        "the helper of pod_mutation_hook at `{}` has not answered within {} s; see what the hook waits for in the \
         scheduler's log",
        socket.display(),
        BATCH.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    struct Helper {
        hook: Hook,
        listener: UnixListener,
        _folder: tempfile::TempDir,
    }

    fn helper() -> Helper {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let hook = Hook::new(MutationHook::Helper, &folder.path().join("wake.sock"));
        Helper { hook, listener, _folder: folder }
    }

    /// Reads one batch and answers with a line.
    async fn answer(stream: &mut BufReader<UnixStream>, answer: impl FnOnce(Value) -> Value) {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let text = answer(serde_json::from_str(&line).unwrap()).to_string() + "\n";
        stream.write_all(text.as_bytes()).await.unwrap();
    }

    fn pod(name: &str) -> Value {
        json!({"metadata": {"name": name}})
    }

    #[tokio::test]
    async fn pods_that_wait_go_in_one_batch_and_one_bad_one_fails_alone() {
        let Helper { hook, listener, _folder } = helper();
        let helper = async {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            answer(&mut stream, |asked| {
                assert_eq!(asked, json!({"pods": [pod("a"), pod("b")]}));
                json!({"pods": [{"pod": {"metadata": {"name": "a", "labels": {"team": "ml"}}}}, {"error": "KeyError: 'x'"}]})
            })
            .await;
        };
        let ((), a, b) = tokio::join!(helper, hook.apply(pod("a")), hook.apply(pod("b")));
        assert_eq!(a.unwrap()["metadata"]["labels"]["team"], "ml");
        let failed = "pod_mutation_hook failed: KeyError: 'x'".to_owned();
        assert_eq!(b, Err(Unmade::Never(Reason::MutationHookFailed, failed)));
    }

    #[tokio::test]
    async fn an_answer_that_is_late_is_there_at_the_next_try() {
        let Helper { hook, listener, _folder } = helper();
        let wait = Duration::from_millis(20);
        let Err(Unmade::NotNow(why)) = hook.ask(pod("a"), wait).await else { panic!("nobody answered") };
        assert_eq!(why, "pod_mutation_hook has not answered within 20 ms; its answer is awaited");
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        answer(&mut stream, |_| json!({"pods": [{"pod": pod("a")}]})).await;
        assert_eq!(hook.apply(pod("a")).await, Ok(pod("a")), "not asked again: one batch was answered");
    }

    #[tokio::test]
    async fn a_helper_that_is_away_or_breaks_is_told_and_asked_again() {
        let Helper { hook, listener, _folder } = helper();
        let broken = async {
            drop(listener.accept().await.unwrap());
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            answer(&mut stream, |_| json!({"error": "No module named 'kubernetes'"})).await;
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            answer(&mut stream, |_| json!({"pods": [{"pod": pod("a")}]})).await;
        };
        let asks = async {
            for said in ["cannot be reached at `", "cannot work: No module named 'kubernetes'"] {
                let Err(Unmade::NotNow(why)) = hook.apply(pod("a")).await else { panic!("it is broken") };
                assert!(why.starts_with(&format!("the helper of pod_mutation_hook {said}")), "{why}");
            }
            assert_eq!(hook.apply(pod("a")).await, Ok(pod("a")));
        };
        tokio::join!(broken, asks);
        drop(listener);
        let gone = Hook::new(MutationHook::Helper, Path::new("/nonexistent/wake.sock"));
        let Err(Unmade::NotNow(why)) = gone.apply(pod("a")).await else { panic!("there is none") };
        assert!(why.contains("`/nonexistent/pod-mutation.sock`: No such file"), "{why}");
        assert_eq!(gone.probe().await, Err(why));
    }

    #[tokio::test]
    async fn without_a_choice_no_pod_is_made_and_ignoring_is_a_choice() {
        let none = Hook::new(MutationHook::Refuse, Path::new(""));
        assert_eq!(none.apply(pod("a")).await, Err(Unmade::NotNow(CHOOSE.into())));
        assert_eq!(Hook::none().apply(pod("a")).await, Ok(pod("a")));
    }
}
