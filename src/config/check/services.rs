//! Checks of `mcp.services`, and its part of the snapshot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::files;
use super::super::snapshot::{HostPort, Isolation, Processes, Replicas, Service, ServiceRuntime, Timeouts};
use super::super::spec::{IsolationSpec, RuntimeSpec, ServiceSpec};
use super::super::tree::Step::{self, Index, Key};
use super::Checker;
use super::edge::LISTENERS;
use super::mistake::{Mistake, Notice};

/// The path of one key of one service.
fn at<'a>(index: usize, key: &'a str) -> [Step<'a>; 4] {
    [Key("mcp"), Key("services"), Index(index), Key(key)]
}

impl Checker<'_> {
    pub(super) fn services(&mut self) -> Vec<Service> {
        let spec = self.spec;
        if spec.mcp.runtime == RuntimeSpec::Docker {
            self.error(&[Key("mcp"), Key("runtime")], &Mistake::DockerRuntime);
        }
        if spec.mcp.services.is_empty() && self.surroundings.names.services.is_empty() {
            self.warn(&[Key("mcp"), Key("services")], &Notice::NoServices);
        }
        self.names_are_unique();
        self.ports_are_unique();
        let services = spec.mcp.services.iter().enumerate();
        services
            .filter_map(|(index, service)| self.service(index, service))
            .collect()
    }

    fn names_are_unique(&mut self) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, service) in self.spec.mcp.services.iter().enumerate() {
            let name = service.name.0.as_str();
            match first.get(name) {
                Some(earlier) => {
                    let line = (self.surroundings.locate)(&at(*earlier, "name")).map_or(0, |span| span.line);
                    self.error(&at(index, "name"), &Mistake::RepeatedService(name, line));
                }
                None => {
                    first.insert(name, index);
                }
            }
        }
    }

    fn ports_are_unique(&mut self) {
        let mut first: BTreeMap<u16, &str> = BTreeMap::new();
        let own = self.own_addresses();
        for (index, service) in self.spec.mcp.services.iter().enumerate() {
            let Some(port) = service.port else { continue };
            let name = service.name.0.as_str();
            match first.get(&port) {
                Some(earlier) => {
                    let mistake = Mistake::RepeatedPort {
                        first: earlier,
                        second: name,
                        port,
                    };
                    self.error(&at(index, "port"), &mistake);
                }
                None => {
                    first.insert(port, name);
                }
            }
            for (listener, address) in LISTENERS.into_iter().zip(own) {
                if address.port() == port {
                    self.error(
                        &at(index, "port"),
                        &Mistake::OwnPort {
                            service: name,
                            port,
                            listener,
                        },
                    );
                }
            }
        }
    }

    fn service(&mut self, index: usize, spec: &ServiceSpec) -> Option<Service> {
        let name = spec.name.0.as_str();
        let (replicas, processes) = (&spec.replicas, &spec.processes);
        if replicas.min > replicas.max {
            let mistake = Mistake::MinOverMax {
                what: "replicas",
                min: replicas.min,
                max: replicas.max,
            };
            self.error(&at(index, "replicas"), &mistake);
        }
        if processes.warm > processes.max {
            let path = [
                Key("mcp"),
                Key("services"),
                Index(index),
                Key("processes"),
                Key("warm"),
            ];
            self.error(
                &path,
                &Mistake::WarmOverMax {
                    warm: processes.warm,
                    max: processes.max,
                },
            );
        }
        if let Some(backup) = &spec.backup {
            if backup == &spec.name {
                self.error(&at(index, "backup"), &Mistake::OwnBackup(name));
            } else {
                self.known_service(&at(index, "backup"), &backup.0);
            }
        }
        let runtime = self.runtime(index, spec)?;
        Some(Service {
            name: spec.name.0.clone(),
            runtime,
            health_check_path: spec.health_check_path.0.0.clone(),
            isolation: match spec.isolation {
                IsolationSpec::Client => Isolation::Client,
                IsolationSpec::Shared => Isolation::Shared,
            },
            stateless: spec.stateless,
            processes: Processes {
                max: processes.max,
                idle_stop: processes.idle_stop.0.0,
                warm: processes.warm,
            },
            replicas: Replicas {
                min: replicas.min,
                max: replicas.max,
                idle_stop: replicas.idle_stop.0.0,
            },
            max_concurrent: spec.max_concurrent,
            timeouts: Timeouts {
                first_byte: spec.timeouts.first_byte.0.0,
                idle: spec.timeouts.idle.0.0,
                total: spec.timeouts.total.0.0,
                start: spec.timeouts.start.0.0,
            },
            tags: spec.tags.iter().map(|tag| tag.0.0.clone()).collect(),
            backup: spec.backup.as_ref().map(|backup| backup.0.clone()),
        })
    }

    fn runtime(&mut self, index: usize, spec: &ServiceSpec) -> Option<ServiceRuntime> {
        let name = spec.name.0.as_str();
        let given = [
            ("upstreams", !spec.upstreams.is_empty()),
            ("command", !spec.command.is_empty()),
            ("wrapper", spec.wrapper.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is)| *is).map(|(key, _)| key);
        let first = given.next();
        if let (Some(first), Some(second)) = (first, given.next()) {
            self.error(
                &at(index, second),
                &Mistake::Exclusive {
                    service: name,
                    first,
                    second,
                },
            );
            return None;
        }
        match (first, self.spec.mcp.runtime) {
            (Some("upstreams"), _) => self.fixed(index, spec),
            (_, RuntimeSpec::Fixed) => {
                self.error(&at(index, "name"), &Mistake::NoUpstreams(name));
                None
            }
            // The runtime itself has been reported; an image's own command would do there.
            (None, RuntimeSpec::Docker) => None,
            (None, RuntimeSpec::Process) => {
                self.error(&at(index, "name"), &Mistake::NothingToStart(name));
                None
            }
            (Some(_), _) => self.process(index, spec),
        }
    }

    fn fixed(&mut self, index: usize, spec: &ServiceSpec) -> Option<ServiceRuntime> {
        let name = spec.name.0.as_str();
        if spec.port.is_some() {
            let mistake = Mistake::Exclusive {
                service: name,
                first: "upstreams",
                second: "port",
            };
            self.error(&at(index, "port"), &mistake);
        }
        let own = self.spec.edge.listen.0.0;
        for (item, upstream) in spec.upstreams.iter().enumerate() {
            let path = [
                Key("mcp"),
                Key("services"),
                Index(index),
                Key("upstreams"),
                Index(item),
            ];
            if own.port() != 0 && upstream.0.port == own.port() && is_here(&upstream.0, own) {
                self.error(&path, &Mistake::UpstreamIsEdge(upstream.0.to_string()));
            }
        }
        let upstreams = spec.upstreams.iter().map(|upstream| upstream.0.clone()).collect();
        Some(ServiceRuntime::Fixed {
            upstreams,
            token: spec.token.as_ref().map(|token| token.0.0.clone()),
        })
    }

    fn process(&mut self, index: usize, spec: &ServiceSpec) -> Option<ServiceRuntime> {
        let service = spec.name.0.as_str();
        if spec.token.is_some() {
            self.error(&at(index, "token"), &Mistake::TokenWithoutUpstreams);
        }
        let cwd = spec.cwd.as_ref().map(|cwd| PathBuf::from(&cwd.0.0));
        if let Some(path) = cwd.as_deref().filter(|path| !path.is_dir()) {
            let path = path.to_string_lossy();
            self.warn(
                &at(index, "cwd"),
                &Notice::NoWorkingDirectory { service, path: &path },
            );
        }
        let command = match &spec.wrapper {
            Some(wrapper) => {
                let path = wrapper.0.0.as_str();
                if !files::is_executable(Path::new(path)) {
                    self.warn(&at(index, "wrapper"), &Notice::NotExecutable { service, path });
                }
                vec![path.to_owned()]
            }
            None => {
                self.command(index, spec, cwd.as_deref());
                spec.command.clone()
            }
        };
        let env = spec
            .env
            .0
            .iter()
            .map(|(name, value)| (name.0.0.clone(), value.0.0.clone()))
            .collect();
        Some(ServiceRuntime::Process {
            command,
            env,
            cwd,
            port: spec.port,
        })
    }

    fn command(&mut self, index: usize, spec: &ServiceSpec, cwd: Option<&Path>) {
        let service = spec.name.0.as_str();
        let program = spec.command.first().map(String::as_str).unwrap_or_default();
        if program.is_empty() {
            return self.error(&at(index, "command"), &Mistake::EmptyProgram);
        }
        if spec.command.iter().any(|argument| argument.contains('\0')) {
            return self.error(&at(index, "command"), &Mistake::NulInCommand);
        }
        // The server is started with its own PATH if the service gives it one.
        let own = spec.env.0.iter().find(|(name, _)| name.0.0 == "PATH");
        let own = own.map(|(_, value)| secrecy::ExposeSecret::expose_secret(&value.0.0).to_owned());
        let search = own
            .or_else(|| (self.surroundings.variables)("PATH"))
            .unwrap_or_default();
        if files::find_program(program, cwd, &search).is_none() {
            let notice = if program.contains('/') {
                Notice::NotExecutable {
                    service,
                    path: program,
                }
            } else {
                Notice::ProgramNotFound { service, program }
            };
            self.warn(&at(index, "command"), &notice);
        }
    }
}

/// True when the upstream's host is an address that `own` listens on, as far as that can be said without asking DNS.
fn is_here(upstream: &HostPort, own: std::net::SocketAddr) -> bool {
    let Ok(ip) = upstream.host.parse::<std::net::IpAddr>() else {
        return upstream.host == "localhost" && (own.ip().is_loopback() || own.ip().is_unspecified());
    };
    ip == own.ip() || (own.ip().is_unspecified() && ip.is_loopback())
}
