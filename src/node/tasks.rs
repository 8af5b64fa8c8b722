//! Slow work beside the loop: unpacking, deleting, saving. Results come back as events.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

type Job<R> = Box<dyn FnOnce() -> R + Send>;

/// A queue of jobs and the threads that work on it. With one thread it is a lane: jobs are done one by one, in order.
///
/// A thread exists only while there is something to do.
pub struct Tasks<R> {
    shared: Arc<Shared<R>>,
}

struct Shared<R> {
    queue: Mutex<Queue<R>>,
    idle: Condvar,
    /// Readable while there are results.
    wake: OwnedFd,
    max_threads: usize,
}

struct Queue<R> {
    jobs: VecDeque<Job<R>>,
    results: Vec<R>,
    threads: usize,
}

impl<R: Send + 'static> Tasks<R> {
    pub fn new(max_threads: usize) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), results: Vec::new(), threads: 0 });
        Ok(Self { shared: Arc::new(Shared { queue, idle: Condvar::new(), wake, max_threads }) })
    }

    /// Queues a job.
    pub fn add(&self, job: impl FnOnce() -> R + Send + 'static) {
        self.add_for_later(job);
        self.go();
    }

    /// Queues a job that no thread is woken for: it is done after the next [`Tasks::go`] or [`Tasks::add`], in its turn.
    pub fn add_for_later(&self, job: impl FnOnce() -> R + Send + 'static) {
        self.shared.lock().jobs.push_back(Box::new(job));
    }

    /// Sees to it that what is queued is done. If no thread can be had for it now, it is done here: late is better than never.
    pub fn go(&self) {
        let mut queue = self.shared.lock();
        if queue.jobs.is_empty() || queue.threads >= self.shared.max_threads {
            return;
        }
        queue.threads += 1;
        drop(queue);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("podkeep-task".to_owned());
        if thread.spawn(move || shared.work()).is_err() {
            self.shared.work();
        }
    }

    /// What has been done since the last call.
    pub fn results(&self) -> Vec<R> {
        let mut count = [0; 8];
        // Nothing to read means that nothing is done yet.
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        std::mem::take(&mut self.shared.lock().results)
    }

    /// Waits until nothing is queued or under way.
    pub fn finish(&self) {
        self.go();
        let mut queue = self.shared.lock();
        while queue.threads > 0 {
            queue = self.shared.idle.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<R> Clone for Tasks<R> {
    /// The same queue and threads.
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R> AsFd for Tasks<R> {
    /// Readable while there are results.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

impl<R> Shared<R> {
    /// The queue is whole at every moment at which a job could panic, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread's life.
    fn work(&self) {
        loop {
            let mut queue = self.lock();
            let Some(job) = queue.jobs.pop_front() else {
                queue.threads -= 1;
                self.idle.notify_all();
                return;
            };
            drop(queue);
            let result = job();
            self.lock().results.push(result);
            // The counter cannot overflow: it is read whenever the loop turns.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

/// Work that is under way once at most, however often there is reason for it: what came up meanwhile is one more time's.
#[derive(Debug, Default)]
pub struct OneAtATime {
    under_way: bool,
    again: bool,
}

impl OneAtATime {
    /// Whether it may begin now; if not, [`ended`](Self::ended) will say that it has to be done again.
    pub fn may_begin(&mut self) -> bool {
        self.again = std::mem::replace(&mut self.under_way, true);
        !self.again
    }

    /// Whether there was reason for it since it began.
    pub fn ended(&mut self) -> bool {
        self.under_way = false;
        std::mem::take(&mut self.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_reason_for_while_it_is_under_way_is_done_once_more() {
        let mut work = OneAtATime::default();
        assert!(work.may_begin());
        assert!(!work.ended(), "nothing came up");
        assert!(work.may_begin());
        assert!(!work.may_begin() && !work.may_begin());
        assert!(work.ended(), "whatever the number of reasons");
        assert!(work.may_begin());
        assert!(!work.ended(), "and once more only");
    }

    #[test]
    fn one_thread_keeps_the_order() {
        let lane = Tasks::new(1).unwrap();
        for number in 0..100 {
            lane.add(move || number);
        }
        lane.finish();
        assert_eq!(lane.results(), (0..100).collect::<Vec<_>>());
        assert!(lane.results().is_empty());
    }

    #[test]
    fn what_is_for_later_waits_and_keeps_its_turn() {
        let lane = Tasks::new(1).unwrap();
        lane.add_for_later(|| 1);
        assert_eq!(lane.shared.lock().threads, 0);
        lane.add(|| 2);
        lane.add_for_later(|| 3);
        lane.finish();
        assert_eq!(lane.results(), [1, 2, 3]);
    }
}
