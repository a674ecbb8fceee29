//! A network that can be broken: connections that keep their order and lose nothing unless they are reset, over links that delay, are cut,
//! or lose packets, which are then sent again as TCP does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

/// Bytes of a direction that may be under way and unread.
const WINDOW_BYTES: usize = 1 << 20;
/// Time until a lost packet is sent again; it doubles with each loss in a row,
const RESEND_MS: u64 = 200;
/// up to this.
const MAX_RESEND_MS: u64 = 3_200;
/// First port of those that dial.
const FIRST_EPHEMERAL_PORT: u16 = 32_768;
/// Connections that wait for being accepted.
const BACKLOG: usize = 1_024;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// A packet takes at least so long, milliseconds.
    pub min_ms: u64,
    /// And at most so long.
    pub max_ms: u64,
    /// The share of packets that are lost, and sent again.
    pub loss: f64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            min_ms: 0,
            max_ms: 2,
            loss: 0.0,
        }
    }
}

/// All connections of a world.
pub struct Network {
    now: u64,
    random: StdRng,
    weather: Weather,
    /// Who is not heard by whom.
    cut: BTreeSet<(IpAddr, IpAddr)>,
    /// Machines that do not run. What is sent to them is lost without a word.
    dark: BTreeSet<IpAddr>,
    listeners: BTreeMap<SocketAddr, Arc<Mutex<Backlog>>>,
    pipes: BTreeMap<u64, Arc<Mutex<Pipe>>>,
    /// When a pipe, by number, or a dial has something to do next.
    due: BTreeSet<(u64, u64)>,
    dials: BTreeMap<u64, Dial>,
    next: u64,
    next_port: u16,
    /// Packets that arrived.
    delivered: u64,
}

/// Connections that wait for being accepted.
#[derive(Default)]
pub(crate) struct Backlog {
    waiting: VecDeque<Ends>,
    acceptor: Option<Waker>,
}

impl Backlog {
    pub(crate) fn accept(&mut self, waker: &Waker) -> Option<Ends> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.acceptor = Some(waker.clone());
        }
        next
    }
}

/// One end of a connection.
pub(crate) struct Ends {
    pub(crate) reading: Arc<Mutex<Pipe>>,
    pub(crate) writing: Arc<Mutex<Pipe>>,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// Somebody who waits for a connection.
struct Dial {
    from: SocketAddr,
    to: SocketAddr,
    tries: u32,
    outcome: Arc<Mutex<Dialing>>,
}

/// How a dial went.
#[derive(Default)]
pub(crate) struct Dialing {
    pub(crate) done: Option<io::Result<Ends>>,
    pub(crate) dialer: Option<Waker>,
}

/// One direction of a connection.
pub(crate) struct Pipe {
    number: u64,
    /// The other direction.
    back: u64,
    from: IpAddr,
    to: IpAddr,
    /// On their way, in order, each with when it arrives; none is the end.
    flying: VecDeque<(u64, Option<Bytes>)>,
    flying_bytes: usize,
    losses: u32,
    arrived: VecDeque<Bytes>,
    arrived_bytes: usize,
    /// Nothing will come after what has arrived.
    ended: bool,
    /// Broken, as seen by who reads and by who writes.
    reset: bool,
    /// Nobody reads any more.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Network {
    pub(super) fn new(random: StdRng) -> Self {
        Self {
            now: 0,
            random,
            weather: Weather::default(),
            cut: BTreeSet::new(),
            dark: BTreeSet::new(),
            listeners: BTreeMap::new(),
            pipes: BTreeMap::new(),
            due: BTreeSet::new(),
            dials: BTreeMap::new(),
            next: 1,
            next_port: FIRST_EPHEMERAL_PORT,
            delivered: 0,
        }
    }

    /// Packets that have arrived so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// From now on, all links behave like this.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// From now on, `to` does not hear `from`.
    pub fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cut.insert((from, to));
    }

    /// All hear each other again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Breaks every connection between two machines: both ends learn it, and what was on its way is lost.
    pub fn reset(&mut self, one: IpAddr, other: IpAddr) {
        self.break_where(|pipe| [(one, other), (other, one)].contains(&(pipe.from, pipe.to)));
    }

    /// The machine stops. With `silent`, as when its power is cut, nobody is told; otherwise its kernel ends its connections.
    pub fn stop(&mut self, machine: IpAddr, silent: bool) {
        self.listeners.retain(|at, _| at.ip() != machine);
        self.dials.retain(|_, dial| dial.from.ip() != machine);
        if silent {
            self.dark.insert(machine);
            for pipe in self.pipes.values() {
                let mut pipe = pipe.lock();
                if pipe.from == machine {
                    // What it had not sent, it never will.
                    pipe.flying.clear();
                    pipe.flying_bytes = 0;
                }
                if pipe.to == machine {
                    pipe.unread = true;
                }
            }
        } else {
            self.break_where(|pipe| pipe.from == machine || pipe.to == machine);
        }
    }

    /// The machine runs (again).
    pub fn start(&mut self, machine: IpAddr) {
        self.dark.remove(&machine);
    }

    fn break_where(&mut self, is_meant: impl Fn(&Pipe) -> bool) {
        self.pipes.retain(|_, pipe| {
            let mut pipe = pipe.lock();
            let meant = is_meant(&pipe);
            if meant {
                pipe.break_off();
            }
            !meant
        });
    }

    /// Moves on to `now`, in milliseconds, and delivers what is due.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        while let Some((due, number)) = self.due.first().copied() {
            if due > now {
                break;
            }
            self.due.pop_first();
            if self.dials.contains_key(&number) {
                self.try_to_connect(number);
            } else if let Some(pipe) = self.pipes.get(&number).cloned() {
                self.deliver(&pipe);
            }
        }
    }

    fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        self.cut.contains(&(from, to))
    }

    fn latency(&mut self) -> u64 {
        self.random
            .random_range(self.weather.min_ms..=self.weather.max_ms.max(self.weather.min_ms))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn deliver(&mut self, shared: &Arc<Mutex<Pipe>>) {
        let mut pipe = shared.lock();
        while let Some((due, _)) = pipe.flying.front() {
            let due = *due;
            if due > self.now {
                self.due.insert((due, pipe.number));
                return;
            }
            let lost = self.is_cut(pipe.from, pipe.to)
                || self.dark.contains(&pipe.to)
                || (self.weather.loss > 0.0 && self.random.random_bool(self.weather.loss));
            if lost {
                let wait = (RESEND_MS << pipe.losses.min(8)).min(MAX_RESEND_MS);
                pipe.losses += 1;
                let again = self.now + wait;
                for (due, _) in &mut pipe.flying {
                    *due = (*due).max(again);
                }
                self.due.insert((again, pipe.number));
                return;
            }
            pipe.losses = 0;
            let packet = pipe.flying.pop_front().and_then(|(_, packet)| packet);
            if pipe.unread && packet.is_none() {
                let number = pipe.number;
                drop(pipe);
                self.pipes.remove(&number);
                return;
            }
            if pipe.unread {
                // As a kernel answers for who is gone: the connection is broken off.
                let back = pipe.back;
                pipe.break_off();
                let number = pipe.number;
                drop(pipe);
                if let Some(back) = self.pipes.remove(&back) {
                    back.lock().break_off();
                }
                self.pipes.remove(&number);
                return;
            }
            self.delivered += 1;
            match packet {
                Some(bytes) => {
                    pipe.flying_bytes -= bytes.len();
                    pipe.arrived_bytes += bytes.len();
                    pipe.arrived.push_back(bytes);
                }
                None => pipe.ended = true,
            }
            wake(&mut pipe.reader);
        }
    }

    pub(crate) fn listen(&mut self, at: SocketAddr) -> io::Result<(SocketAddr, Arc<Mutex<Backlog>>)> {
        let at = if at.port() == 0 {
            SocketAddr::new(at.ip(), self.ephemeral_port())
        } else {
            at
        };
        if self.listeners.contains_key(&at) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = Arc::<Mutex<Backlog>>::default();
        self.listeners.insert(at, backlog.clone());
        Ok((at, backlog))
    }

    pub(crate) fn unlisten(&mut self, at: &SocketAddr, backlog: &Arc<Mutex<Backlog>>) {
        if self
            .listeners
            .get(at)
            .is_some_and(|now| Arc::ptr_eq(now, backlog))
        {
            self.listeners.remove(at);
        }
    }

    fn ephemeral_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        self.next_port
    }

    pub(crate) fn dial(&mut self, from: IpAddr, to: SocketAddr) -> Arc<Mutex<Dialing>> {
        let outcome = Arc::<Mutex<Dialing>>::default();
        let number = self.number();
        let dial = Dial {
            from: SocketAddr::new(from, self.ephemeral_port()),
            to,
            tries: 0,
            outcome: outcome.clone(),
        };
        self.dials.insert(number, dial);
        let due = self.now + 1 + self.latency();
        self.due.insert((due, number));
        outcome
    }

    /// A SYN and its answer, at once: what gets through one way is taken to come back, unless that way is cut.
    fn try_to_connect(&mut self, number: u64) {
        let Some(mut dial) = self.dials.remove(&number) else {
            return;
        };
        if Arc::strong_count(&dial.outcome) == 1 {
            return; // Nobody waits any more.
        }
        let (from, to) = (dial.from.ip(), dial.to.ip());
        if self.is_cut(from, to) || self.is_cut(to, from) || self.dark.contains(&to) {
            let wait = (1_000 << dial.tries.min(3)).min(MAX_RESEND_MS);
            dial.tries += 1;
            self.dials.insert(number, dial);
            self.due.insert((self.now + wait, number));
            return;
        }
        let done = match self.listeners.get(&dial.to).cloned() {
            Some(backlog) if backlog.lock().waiting.len() < BACKLOG => {
                let (ours, theirs) = self.connect(dial.from, dial.to);
                let mut backlog = backlog.lock();
                backlog.waiting.push_back(theirs);
                wake(&mut backlog.acceptor);
                Ok(ours)
            }
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        };
        let mut outcome = dial.outcome.lock();
        outcome.done = Some(done);
        wake(&mut outcome.dialer);
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> (Ends, Ends) {
        let (forth, back) = (self.number(), self.number());
        let there = self.pipe(forth, back, from.ip(), to.ip());
        let back = self.pipe(back, forth, to.ip(), from.ip());
        let ours = Ends {
            reading: back.clone(),
            writing: there.clone(),
            local: from,
            peer: to,
        };
        let theirs = Ends {
            reading: there,
            writing: back,
            local: to,
            peer: from,
        };
        (ours, theirs)
    }

    fn pipe(&mut self, number: u64, back: u64, from: IpAddr, to: IpAddr) -> Arc<Mutex<Pipe>> {
        let pipe = Arc::new(Mutex::new(Pipe {
            number,
            back,
            from,
            to,
            flying: VecDeque::new(),
            flying_bytes: 0,
            losses: 0,
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            ended: false,
            reset: false,
            unread: false,
            reader: None,
            writer: None,
        }));
        self.pipes.insert(number, pipe.clone());
        pipe
    }

    /// Sends a packet, or the end, down a pipe.
    pub(crate) fn send(&mut self, pipe: &mut Pipe, packet: Option<Bytes>) {
        let behind = pipe.flying.back().map_or(0, |(due, _)| *due);
        let due = (self.now + self.latency()).max(behind);
        if pipe.flying.is_empty() {
            self.due.insert((due, pipe.number));
        }
        pipe.flying_bytes += packet.as_ref().map_or(0, Bytes::len);
        pipe.flying.push_back((due, packet));
    }

    /// Nobody reads what comes out of a pipe any more.
    pub(crate) fn forget(&mut self, pipe: &mut Pipe) {
        pipe.unread = true;
        pipe.arrived.clear();
        pipe.arrived_bytes = 0;
        let over = pipe.flying.is_empty() && (pipe.ended || pipe.reset);
        if over {
            self.pipes.remove(&pipe.number);
        }
    }
}

impl Pipe {
    fn break_off(&mut self) {
        self.reset = true;
        self.flying.clear();
        self.flying_bytes = 0;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// Room for more to be sent; none while there is no room, and then whoever asks is woken.
    pub(crate) fn room(&mut self, waker: &Waker) -> Option<io::Result<usize>> {
        if self.reset {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match WINDOW_BYTES.saturating_sub(self.flying_bytes + self.arrived_bytes) {
            0 => {
                self.writer = Some(waker.clone());
                None
            }
            room => Some(Ok(room)),
        }
    }

    /// What has arrived, at most so much; empty at the end, and none while there is nothing, and then whoever asks is woken.
    pub(crate) fn read(&mut self, most: usize, waker: &Waker) -> Option<io::Result<Bytes>> {
        if let Some(first) = self.arrived.front_mut() {
            let bytes = first.split_to(most.min(first.len()));
            if first.is_empty() {
                self.arrived.pop_front();
            }
            self.arrived_bytes -= bytes.len();
            wake(&mut self.writer);
            return Some(Ok(bytes));
        }
        if self.reset {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.ended {
            return Some(Ok(Bytes::new()));
        }
        self.reader = Some(waker.clone());
        None
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
