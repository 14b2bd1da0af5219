//! Changing the outputs of a running server: added, given another destination, taken out.

use std::{fmt, sync::Arc};

use super::{
    Destination, Server,
    output::Output,
    outputs::{RunningOutput, RunningOutputs, Stage, queue, sink_of},
};
use crate::{
    control::OutputState,
    delivery::{
        sink::Sink,
        worker::{Consumer, Order},
    },
    dispatch::{OutputKey, OutputSet},
    error::Error,
    io::shard::Message,
};

/// Outputs of a running server that are ready and not in force.
///
/// Dropped without [`apply`](Self::apply), it leaves everything as it was: outputs that were to be
/// added end, and those that were to be replaced keep what they have.
#[must_use = "nothing changes unless it is applied"]
pub struct PreparedOutputs<'a> {
    added: Vec<usize>,
    numbers: Vec<usize>,
    replaced: Vec<Replaced>,
    server: &'a Server,
}

struct Replaced {
    consumers: Vec<Consumer>,
    is_stream: bool,
    number: usize,
    sink: Option<Arc<dyn Sink>>,
}

impl Server {
    /// Makes outputs ready that are to be added to those that the server has, or to take their
    /// places: one that has the name of another takes over what waits for that one, its number and
    /// its number of workers. All are ready, or none is.
    ///
    /// Nothing changes before [`PreparedOutputs::apply`], so that a router can be made for their
    /// [numbers](PreparedOutputs::numbers) in between. The number of an output is not used again in
    /// this process, but for an output of the same name that has not ended.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use ringhook::{Bot, Outcome, Output, Server, Update};
    ///
    /// let server = Server::builder()
    ///     .without_listeners()
    ///     .bot(Bot::without_secret("shop", "/webhook"))
    ///     .output(Output::handler("bot", |_: &Update| Outcome::Failed("not yet".into())))
    ///     .start()?;
    /// let better = Output::handler("bot", |_: &Update| Outcome::Done);
    /// server.prepare_outputs(vec![better])?.apply();
    /// assert_eq!(server.deliver("shop", &[r#"{"update_id":1}"#]), Ok(1));
    /// assert_eq!(server.stop().updates_handled, 1);
    /// # Ok::<(), ringhook::Error>(())
    /// ```
    ///
    /// # Errors
    /// Two of them have one name, one has no or too many workers, its sink cannot be opened, its
    /// threads cannot be started, or the server has had as many outputs as [`OutputSet::MAX`].
    pub fn prepare_outputs(&self, outputs: Vec<Output>) -> Result<PreparedOutputs<'_>, Error> {
        let running = &self.running;
        let (config, bots) = (self.settings().clone(), self.registry.len());
        // Before the lock, which it takes when it is dropped.
        let mut prepared = PreparedOutputs {
            added: Vec::new(),
            numbers: Vec::new(),
            replaced: Vec::new(),
            server: self,
        };
        if outputs.is_empty() {
            return Ok(prepared);
        }
        Output::validate(&outputs)?;
        let mut all = running.lock();
        let of_name = |all: &[RunningOutput], name: &str| {
            let is_it =
                |it: &RunningOutput| it.state.name() == name && !matches!(it.stage, Stage::Over);
            all.iter().position(is_it)
        };
        let new = outputs.iter().filter(|output| of_name(&all, &output.name).is_none());
        if all.len() + new.clone().count() > OutputSet::MAX {
            let expected = "no more than 64 outputs since the start: a restart forgets old ones";
            return Err(Error::config("output", outputs.len(), expected));
        }
        for output in new {
            let key = OutputKey::from_name(&output.name);
            let names = all.iter().map(|known| known.state.name());
            let mut others = names.filter(|name| *name != output.name);
            if let Some(other) = others.find(|name| OutputKey::from_name(name) == key) {
                let expected = format!("another name ({other:?} has the same CRC32C)");
                return Err(Error::config("output.name", &output.name, &expected));
            }
        }
        let outcome = outputs.into_iter().try_for_each(|output| {
            let known = of_name(&all, &output.name);
            let number = match known.and_then(|number| all.get_mut(number).map(|it| (number, it))) {
                None => {
                    let workers = output.workers.unwrap_or(running.cpus.len());
                    let shards = self.placement.shards.len();
                    let queue = queue(&output.name, workers, &config, bots, shards);
                    let number = running.start(&mut all, &output, &queue)?;
                    prepared.added.push(number);
                    number
                }
                Some((number, known)) => {
                    let queue = running.outputs.queues.get(number);
                    let Some(queue) = queue else { return Ok(()) };
                    let to = &output.destination;
                    let outcomes = known.workers.iter().map(|worker| &worker.outcomes);
                    let consumers = running.consumers(to, outcomes, &queue.scheduler)?;
                    known.holds += 1;
                    let is_stream = matches!(to, Destination::Stream(_));
                    let sink = sink_of(to);
                    prepared.replaced.push(Replaced { consumers, is_stream, number, sink });
                    number
                }
            };
            prepared.numbers.push(number);
            Ok(())
        });
        RunningOutputs::mark_sole(&all);
        // Dropping what is prepared takes it.
        drop(all);
        self.metrics.set_slow(config.profile.slow);
        outcome.map(|()| prepared)
    }

    /// Takes the output `name` out of the running server: to be called once no route that is in
    /// force leads to it. What it has got is still delivered to it; when the last of that is
    /// settled, its threads end and its destination is dropped. Until then it is a line of
    /// `/readyz`. False where there is no such output, or it is where updates go without a router.
    ///
    /// What waits for it in the journal at the next start goes where the routes of then lead.
    pub fn retire_output(&self, name: &str) -> bool {
        let mut all = self.running.lock();
        let number = all.iter().position(|output| {
            output.state.name() == name && matches!(output.stage, Stage::InForce)
        });
        let Some(number) = number else { return false };
        let has_default = self.running.outputs.router.is_none();
        if has_default && number == 0 {
            return false;
        }
        self.retire(&mut all, number);
        true
    }

    fn retire(&self, all: &mut [RunningOutput], number: usize) {
        if let Some(output) = all.get_mut(number) {
            let token = Arc::new(());
            for mailbox in &self.shards {
                // A sender of its own always finds room. One that has ended has dropped it.
                let _ = mailbox.clone().try_send(Message::Routed(Arc::clone(&token)));
            }
            output.stage = Stage::Draining(token);
            output.state.set_removed(self.running.left(number) as u64);
        }
        RunningOutputs::mark_sole(all);
    }
}

impl PreparedOutputs<'_> {
    /// The numbers of the outputs, in the order in which they were given.
    #[must_use]
    pub fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// The states of the outputs, in the same order.
    pub fn states(&self) -> impl Iterator<Item = Arc<OutputState>> {
        let all = self.server.running.lock();
        let states = self.numbers.iter().filter_map(|number| all.get(*number));
        states.map(|output| Arc::clone(&output.state)).collect::<Vec<_>>().into_iter()
    }

    /// Puts them in force. What a destination that is replaced has got is settled by it, unless it
    /// is a stream that gives it back, or a sink that takes nothing: then the new one gets it.
    /// An update of a chat whose earlier one is under way waits for that.
    pub fn apply(mut self) {
        self.added.clear();
        // Sinks are the program's: they are dropped without the lock.
        let mut before = Vec::new();
        let running = &self.server.running;
        let mut all = running.lock();
        for Replaced { consumers, is_stream, number, sink } in self.replaced.drain(..) {
            let Some(output) = all.get_mut(number) else { continue };
            output.holds = output.holds.saturating_sub(1);
            (output.is_stream, output.stage) = (is_stream, Stage::InForce);
            before.push(running.files.set_sink(number, sink));
            for (worker, consumer) in output.workers.iter().zip(consumers) {
                worker.orders.give(Order::Serve(consumer));
            }
            output.state.restore();
            running.wake(number);
        }
        RunningOutputs::mark_sole(&all);
    }
}

impl Drop for PreparedOutputs<'_> {
    fn drop(&mut self) {
        let mut all = self.server.running.lock();
        for Replaced { number, .. } in &self.replaced {
            if let Some(output) = all.get_mut(*number) {
                output.holds = output.holds.saturating_sub(1);
            }
        }
        for number in std::mem::take(&mut self.added) {
            self.server.retire(&mut all, number);
        }
        // The destinations are the program's.
        drop(all);
        self.replaced.clear();
    }
}

impl fmt::Debug for PreparedOutputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedOutputs").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}
