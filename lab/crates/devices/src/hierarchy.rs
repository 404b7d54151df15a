// SPDX-License-Identifier: MIT OR Apache-2.0
//! A set of endpoints, and serving it.

use crate::{
    complaints::{Complaints, News},
    device::{Device, Slot},
    function::Function,
    monitor::Monitor,
    vtd::VtD,
};
use fabric::{
    Fabric,
    trace::{Options, Snaplen, Tap},
};
use std::{
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
};
use thiserror::Error;
use tlp::{Bdf, Mode};
use vfio_user::Server;

/// Endpoints on one fabric.
#[derive(Debug)]
pub struct Hierarchy {
    /// Mode of every link.
    pub mode: Mode,
    /// Socket of the monitor (QMP) of a QEMU with an `intel-iommu`, whose translations then apply
    /// to all requests; it need not listen before the first DMA. Without one there is no IOMMU.
    pub iommu: Option<PathBuf>,
    /// Once true, the process crashes (SIGKILL) as soon as a driver looks at an initiator whose
    /// copy is on its way, or at an RDMA adapter that is busy, at a moment that nobody can foresee.
    ///
    /// QEMU then waits for the answer to that access, so there is no other one under way: QEMU 11.1
    /// aborts if a server leaves a request unread.
    pub crash: Arc<AtomicBool>,
    /// Existing directory for the trace; without one nothing is recorded.
    pub trace_dir: Option<PathBuf>,
    /// About how many bytes the trace may have; what is beyond is counted only.
    pub trace_limit: u64,
    /// How much of a packet the trace captures, if not all.
    pub trace_snaplen: Option<Snaplen>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// What traces and messages call it; unique, and not "host".
    pub name: String,
    /// Unix socket that QEMU's `vfio-user-pci` connects to; must not exist.
    pub socket: PathBuf,
    /// Bus, device and function under which the guest will see it, for its completions and its
    /// serial number: QEMU does not tell. Requests carry what the driver says.
    pub bdf: Bdf,
    /// Where it is, for those who draw a trace: see [`Tap::placed`].
    pub path: String,
    /// What it is.
    pub device: Box<dyn Device>,
}

/// Why endpoints cannot be served.
#[derive(Debug, Error)]
pub enum Error {
    /// The traces cannot be written.
    #[error(transparent)]
    Tap(fabric::Error),
    /// The endpoint cannot be attached to the fabric.
    #[error("endpoint {name}: {source}")]
    Attach {
        /// The endpoint.
        name: String,
        /// Why.
        source: fabric::Error,
    },
    /// The device cannot be built.
    #[error("endpoint {name}: {source}")]
    Device {
        /// The endpoint.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The endpoint's thread cannot be started.
    #[error("endpoint {name}: no thread: {source}")]
    Thread {
        /// The endpoint.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Something is at the socket's path.
    #[error("endpoint {name}: {socket} exists; if no other process serves it, remove it")]
    SocketExists {
        /// The endpoint.
        name: String,
        /// The path.
        socket: PathBuf,
    },
    /// The socket failed.
    #[error("endpoint {name}: socket {socket}: {source}")]
    Socket {
        /// The endpoint.
        name: String,
        /// The path.
        socket: PathBuf,
        /// Why.
        source: vfio_user::Error,
    },
    /// Something happened that must not.
    #[error("endpoint {name}: {what}")]
    Complaint {
        /// The endpoint.
        name: String,
        /// What.
        what: String,
    },
    /// The endpoint's thread panicked.
    #[error("endpoint {0} panicked")]
    Panicked(String),
}

/// Endpoints that are being served.
pub struct Running {
    endpoints: Vec<Served>,
    news: mpsc::Receiver<News>,
}

struct Served {
    name: String,
    socket: PathBuf,
    /// Says how serving ended; taken when it did.
    thread: Option<thread::JoinHandle<Result<(), vfio_user::Error>>>,
}

/// Makes the endpoints of `hierarchy` and serves each by a thread of its own.
///
/// When it returns, every socket listens.
pub fn serve(hierarchy: &Hierarchy) -> Result<Running, Error> {
    let tap = match &hierarchy.trace_dir {
        Some(dir) => {
            let endpoints = hierarchy.endpoints.iter();
            let paths = endpoints.map(|endpoint| (endpoint.name.clone(), endpoint.path.clone()));
            let options = Options {
                limit: hierarchy.trace_limit,
                snaplen: hierarchy.trace_snaplen,
            };
            Tap::with(dir, options).map_err(Error::Tap)?.placed(paths)
        }
        None => Tap::discard(),
    };
    let fabric = match &hierarchy.iommu {
        None => Fabric::new(hierarchy.mode, tap),
        Some(monitor) => {
            let iommu = Arc::new(VtD(Monitor::new(monitor.clone())));
            Fabric::with_iommu(hierarchy.mode, tap, iommu)
        }
    };
    let (to, news) = mpsc::channel();
    let prepared = hierarchy
        .endpoints
        .iter()
        .enumerate()
        .map(|(number, endpoint)| {
            let complaints = Complaints::new(number, to.clone());
            let function = build(endpoint, hierarchy, &fabric, &complaints)?;
            let server = listen(endpoint, &function)?;
            Ok((endpoint, function, server))
        })
        .collect::<Result<Vec<_>, Error>>()?;

    let mut endpoints = vec![];
    for (number, (endpoint, mut function, server)) in prepared.into_iter().enumerate() {
        let left = OnDrop(to.clone(), number);
        let thread = thread::Builder::new()
            .name(endpoint.name.clone())
            .spawn(move || {
                let left = left;
                let result = server.run(&mut function);
                drop(left);
                function.disconnect();
                result
            })
            .map_err(|source| Error::Thread {
                name: endpoint.name.clone(),
                source,
            })?;
        let (name, socket) = (endpoint.name.clone(), endpoint.socket.clone());
        endpoints.push(Served {
            name,
            socket,
            thread: Some(thread),
        });
    }
    Ok(Running { endpoints, news })
}

impl Running {
    /// Waits until every client has gone. When something happens that must not, it returns at once,
    /// and the endpoints are still served until the process ends.
    ///
    /// All endpoints serve one VM: once the first client has gone, those that have none are not
    /// waited for.
    pub fn wait(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for number_left in 0..self.endpoints.len() {
            let endpoint = self.next_left()?;
            if number_left == 0 {
                self.dismiss();
            }
            result = result.and(self.endpoints[endpoint].ended()?);
        }
        // The devices are gone, and with them their threads, but for what these have said.
        for news in self.news.try_iter() {
            if let News::Panic(endpoint, what) = news {
                return Err(self.complaint(endpoint, what));
            }
        }
        result
    }

    /// The number of the next endpoint whose client has gone.
    fn next_left(&self) -> Result<usize, Error> {
        loop {
            match self.news.recv().expect("each endpoint says its end") {
                News::Left(endpoint) => return Ok(endpoint),
                News::Panic(endpoint, what) => return Err(self.complaint(endpoint, what)),
                // One that has no thread has left.
                News::Complaint(endpoint, what) if self.endpoints[endpoint].thread.is_some() => {
                    return Err(self.complaint(endpoint, what));
                }
                News::Complaint(..) => {}
            }
        }
    }

    fn complaint(&self, endpoint: usize, what: String) -> Error {
        let name = self.endpoints[endpoint].name.clone();
        Error::Complaint { name, what }
    }

    /// Ends the endpoints that still wait for a client; those that have one go on.
    ///
    /// A server accepts one client: this one, which hangs up at once, or none after its own.
    pub fn dismiss(&self) {
        for endpoint in &self.endpoints {
            if let Err(error) = UnixStream::connect(&endpoint.socket) {
                log::debug!("{}: has ended: {error}", endpoint.name);
            }
        }
    }
}

impl Served {
    /// How serving it ended, for one whose client has gone. That it panicked is an error of its
    /// own, which does not wait.
    fn ended(&mut self) -> Result<Result<(), Error>, Error> {
        match self.thread.take().map(thread::JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(Ok(())),
            Some(Ok(Err(source))) => Ok(Err(Error::Socket {
                name: self.name.clone(),
                socket: self.socket.clone(),
                source,
            })),
            Some(Err(_)) => Err(Error::Panicked(self.name.clone())),
        }
    }
}

/// Says that an endpoint's client has gone, also if its thread panics.
struct OnDrop(mpsc::Sender<News>, usize);

impl Drop for OnDrop {
    fn drop(&mut self) {
        // Nobody waits if the receiver is gone.
        let _ = self.0.send(News::Left(self.1));
    }
}

fn build(
    endpoint: &Endpoint,
    hierarchy: &Hierarchy,
    fabric: &Fabric,
    complaints: &Complaints,
) -> Result<Function, Error> {
    let name = &endpoint.name;
    let slot = Slot {
        name,
        bdf: endpoint.bdf,
        mode: hierarchy.mode,
        trace_dir: hierarchy.trace_dir.as_deref(),
        complaints,
        crash: &hierarchy.crash,
    };
    let parts = endpoint
        .device
        .build(&slot)
        .map_err(|source| Error::Device {
            name: name.clone(),
            source,
        })?;
    let port = fabric
        .attach(name, endpoint.bdf, parts.completer)
        .map_err(|source| Error::Attach {
            name: name.clone(),
            source,
        })?;
    Ok(Function::new(
        name,
        parts.config,
        port,
        parts.interrupt,
        parts.model,
    ))
}

fn listen(endpoint: &Endpoint, function: &Function) -> Result<Server, Error> {
    let (name, socket) = (endpoint.name.clone(), endpoint.socket.clone());
    Server::new(&socket, true, function.irqs(), function.regions()).map_err(|source| match source {
        vfio_user::Error::SocketPathExists => Error::SocketExists { name, socket },
        source => Error::Socket {
            name,
            socket,
            source,
        },
    })
}
