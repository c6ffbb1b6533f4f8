//! Directories that are filled, and deleted whole.

use super::{Round, Sample, fill};
use crate::{
    cell::Cell,
    side::{Done, Side},
};
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// One directory that is filled again and again; only its deletion is measured.
pub(super) struct Trees<S> {
    side: S,
    cell: Cell,
    directory: String,
    is_filled: bool,
}

impl<S> Trees<S> {
    pub(super) fn new(side: S, cell: Cell) -> Self {
        Self { side, cell, directory: format!("t{}", cell.size), is_filled: false }
    }
}

#[async_trait]
impl<S: Side> Round for Trees<S> {
    async fn ready(&mut self) -> Done<()> {
        if !self.is_filled {
            fill(&self.side, &self.directory, self.cell.size).await?;
            self.is_filled = true;
        }
        Ok(())
    }

    async fn run(&mut self, time: Duration) -> Done<Sample> {
        let name = self.side.directory(&self.directory);
        let (began, mut sample) = (Instant::now(), Sample::default());
        loop {
            self.ready().await?;
            let asked = Instant::now();
            self.side.delete_tree(&name).await?;
            let took = asked.elapsed();
            self.is_filled = false;
            sample.latencies.note(took);
            sample.took += took;
            // Filling takes longer than deleting: a round is as long as another one, all in all.
            if began.elapsed() >= time {
                return Ok(sample);
            }
        }
    }
}
