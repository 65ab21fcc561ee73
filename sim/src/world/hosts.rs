//! The hosts of a world and the programs that run on them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::services::{self, LedgerOptions, Start};
use super::shared::{Death, Host};
use super::{Driver, WIRES, auditor, crash, machine};

impl Driver<'_> {
    pub(super) fn make_hosts(&mut self) {
        let world = Arc::clone(&self.world);
        for (wire, _) in WIRES {
            let world = Arc::clone(&world);
            self.sim.host(wire.name(), move || {
                let start = world.start(wire);
                let proxy = world.wires.get(&wire).cloned();
                async move {
                    if let Some(proxy) = proxy {
                        host(start.clone(), services::wire(start, proxy)).await;
                    }
                    Ok(())
                }
            });
        }
        for ledger in [Host::Ledger, Host::SecondLedger] {
            if !world.clocks.contains_key(&ledger) {
                continue;
            }
            let own = Arc::clone(&world);
            self.sim.host(ledger.name(), move || {
                let start = own.start(ledger);
                let options =
                    LedgerOptions { pace: own.plan.ledger_pace, checkpoint_every: own.plan.checkpoint_every };
                let (disk, secrets) = (own.ledger.clone(), own.secrets.clone());
                let program = {
                    let start = start.clone();
                    async move {
                        while ledger == Host::SecondLedger && start.shared.lock().answering.is_none() {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        services::ledger(start, disk, secrets, options).await
                    }
                };
                async move {
                    host(start, program).await;
                    Ok(())
                }
            });
        }
        let own = Arc::clone(&world);
        self.sim.host(Host::Auth.name(), move || {
            let start = own.start(Host::Auth);
            let program = services::auth(start.clone(), own.auth.clone(), own.secrets.clone());
            async move {
                host(start, program).await;
                Ok(())
            }
        });
        let own = Arc::clone(&world);
        self.sim.host(Host::Gateway.name(), move || {
            let start = own.start(Host::Gateway);
            let program = services::gateway(start.clone(), own.secrets.clone());
            async move {
                host(start, program).await;
                Ok(())
            }
        });
        let own = Arc::clone(&world);
        self.sim.host(Host::Office.name(), move || {
            let start = own.start(Host::Office);
            // Its disks are nobody's: operators who are at no machine need none.
            let key = own.machines.first().map_or([0; 32], |machine| machine.key);
            let (office, secrets) = (start.clone(), own.secrets.clone());
            let disks = (own.ledger.clone(), own.auth.clone());
            let prepare = machine::set_up(start.clone(), own.secrets.clone(), own.office.clone());
            let program = async move {
                prepare.await;
                auditor::wait_and_audit(office, secrets, disks, key).await;
            };
            async move {
                host(start, forever(program)).await;
                Ok(())
            }
        });
        if world.clocks.contains_key(&Host::Twin) {
            let own = Arc::clone(&world);
            self.sim.host(Host::Twin.name(), move || {
                let start = own.start(Host::Twin);
                let program = machine::be_twin(start.clone(), own.secrets.clone());
                async move {
                    host(start, forever(program)).await;
                    Ok(())
                }
            });
        }
        for index in 0..world.machines.len() {
            let own = Arc::clone(&world);
            self.sim.host(Host::Machine(index).name(), move || {
                let start = own.start(Host::Machine(index));
                let machine = own.machines[index].clone();
                let program = machine::live(start.clone(), own.secrets.clone(), machine, index);
                async move {
                    host(start, forever(program)).await;
                    Ok(())
                }
            });
        }
    }
}

/// Runs a program as the software of a host: whatever ends it, the host only waits to be taken down then.
async fn host(start: Start, program: impl Future<Output = Result<(), String>> + 'static) {
    let (shared, host) = (Arc::clone(&start.shared), start.host);
    shared.lock().runtimes.insert(Handle::current().id(), host);
    let task = tokio::task::spawn_local(program);
    let death = match task.await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(Death::Ended(why)),
        Err(error) => match error.try_into_panic() {
            Ok(payload) if payload.is::<crash::Crashed>() => None,
            Ok(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
                Some(Death::Panicked(text.unwrap_or_else(|| "something panicked".to_owned())))
            }
            Err(_) => None,
        },
    };
    if let Some(death) = death {
        shared.tell(host, format!("ended: {death:?}"));
        shared.die(host, death);
    }
    std::future::pending::<()>().await;
}

async fn forever(program: impl Future<Output = ()>) -> Result<(), String> {
    program.await;
    std::future::pending().await
}
