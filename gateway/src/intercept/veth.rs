//! The program on the host's side of workloads' interfaces, which stops what packet sockets send.
//!
//! It knows the gateway's own connections by a mark in the kernel's storage for sockets, which nobody without a
//! descriptor of that map can make.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, SkStorage},
    programs::{Program, ProgramError},
};
use gateway_ebpf::maps::{OURS, VETHS};

use super::{InterceptError, bpf};
use crate::net::HostSide;

/// The program's name, in the object and for people.
const PROGRAM: &str = "veth";

/// The program, and where it is.
pub(super) struct Gates {
    program: OwnedFd,
    veths: HashMap<MapData, u32, u32>,
    ours: SkStorage<MapData, u32>,
    directory: PathBuf,
    links: BTreeMap<u32, OwnedFd>,
}

impl Gates {
    /// Loads it, and puts it in the place of what an earlier gateway left in `directory`.
    pub(super) fn load(object: &mut Ebpf, directory: PathBuf) -> Result<Self, InterceptError> {
        let refused = |error: ProgramError| InterceptError::program(PROGRAM, &error);
        let program = object.program_mut(PROGRAM).ok_or_else(|| InterceptError::other_object(PROGRAM))?;
        let Program::SchedClassifier(program) = program else {
            return Err(refused(ProgramError::UnexpectedProgramType));
        };
        program.load().map_err(refused)?;
        let program = program.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?)).map_err(refused)?;
        let veths = object.take_map(VETHS).ok_or_else(|| InterceptError::other_object(VETHS))?;
        let ours = object.take_map(OURS).ok_or_else(|| InterceptError::other_object(OURS))?;
        let mut gates = Self {
            program,
            veths: HashMap::try_from(veths).map_err(InterceptError::map(VETHS))?,
            ours: SkStorage::try_from(ours).map_err(InterceptError::map(OURS))?,
            links: BTreeMap::new(),
            directory,
        };
        fs::create_dir_all(&gates.directory).map_err(InterceptError::io("make", &gates.directory))?;
        gates.take_over()?;
        Ok(gates)
    }

    fn take_over(&mut self) -> Result<(), InterceptError> {
        let pinned = fs::read_dir(&self.directory).map_err(InterceptError::io("read", &self.directory))?;
        for path in pinned.flatten().map(|entry| entry.path()) {
            let Some(interface) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            let link = bpf::open_pin(&path).map_err(InterceptError::io("open the pinned link", &path))?;
            if is_on(&link, interface) {
                bpf::update_link(link.as_fd(), self.program.as_fd())
                    .map_err(InterceptError::io("exchange the program behind", &path))?;
                self.links.insert(interface, link);
            } else {
                let _gone = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Whether it is there: asked of the kernel, now.
    pub(super) fn is_watched(&self, side: HostSide) -> bool {
        self.links.get(&side.interface).is_some_and(|link| is_on(link, side.interface))
            && self.pin(side.interface).exists()
            && self.veths.get(&side.interface, 0).is_ok_and(|namespace| namespace == side.namespace)
    }

    /// Puts it there, unless it is.
    pub(super) fn watch(&mut self, side: HostSide) -> io::Result<()> {
        if self.is_watched(side) {
            return Ok(());
        }
        self.veths.insert(side.interface, side.namespace, 0).map_err(io::Error::other)?;
        let link = match self.links.remove(&side.interface).filter(|link| is_on(link, side.interface)) {
            Some(link) => link,
            None => bpf::link_interface(self.program.as_fd(), side.interface)?,
        };
        let path = self.pin(side.interface);
        fs::create_dir_all(&self.directory)?;
        // Of an interface that had the number before.
        let _mostly_not_there = fs::remove_file(&path);
        let pinned = bpf::pin(link.as_fd(), &path);
        self.links.insert(side.interface, link);
        pinned
    }

    fn pin(&self, interface: u32) -> PathBuf {
        self.directory.join(interface.to_string())
    }

    /// Takes it away.
    pub(super) fn unwatch(&mut self, side: HostSide) {
        if let Some(link) = self.links.remove(&side.interface) {
            let _gone = bpf::detach_link(link.as_fd());
            let _gone = fs::remove_file(self.directory.join(side.interface.to_string()));
            let _gone = self.veths.remove(&side.interface);
        }
    }

    /// Lets what `socket` sends through.
    pub(super) fn claim(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.ours.insert(&socket.as_raw_fd(), 1, 0).map_err(io::Error::other)
    }

    /// Clears away what is left of interfaces that are gone.
    pub(super) fn sweep(&mut self) {
        let gone: Vec<u32> =
            self.links.iter().filter(|(interface, link)| !is_on(link, **interface)).map(|(one, _)| *one).collect();
        for interface in gone {
            self.links.remove(&interface);
            let _gone = fs::remove_file(self.pin(interface));
            let _gone = self.veths.remove(&interface);
        }
    }
}

fn is_on(link: &OwnedFd, interface: u32) -> bool {
    bpf::interface_of(link.as_fd()).is_ok_and(|found| found == interface)
}
