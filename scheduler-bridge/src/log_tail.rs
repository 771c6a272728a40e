//! The last lines of a failed pod's log, kept with its launch.

use windlass_core::ids::{Epoch, LaunchId};

use crate::error::BridgeError;
use crate::store::Store;
use crate::transaction::{Access, statement};

const KEEP: &str = "UPDATE windlass.launch SET log_tail = $2 WHERE launch_id = $1";

impl Store {
    /// Stores them. `log` may hold no NUL character.
    pub async fn keep_log(&self, epoch: Epoch, launch: &LaunchId, log: &str) -> Result<(), BridgeError> {
        let mut tx = self.begin(Access::Fenced(epoch), "keep the log of a failed pod").await?;
        tx.execute(statement(KEEP).bind(launch.as_str().to_owned()).bind(log.to_owned())).await?;
        tx.commit().await
    }
}
