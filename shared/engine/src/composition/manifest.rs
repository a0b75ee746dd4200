//! What a pattern offers, as the composition sees it. The patterns provide it; this module only asks.

use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::calls::executor::Sharing;

use super::object::Object;

/// Checks the configuration of an instance. Gets the configuration (`{}` where none is given), the pointer to it, and
/// the list that takes every fault.
pub type CheckConfig = fn(config: &Value, pointer: &str, faults: &mut Vec<Fault>);

/// Checks the settings (`with`) of an action. Gets the settings (`{}` where none are given), the configuration of the
/// action's instance, the pointer to the settings, and the list that takes every fault.
///
/// The configuration may be faulty itself: those faults are reported already.
pub type CheckSettings = fn(settings: &Value, config: &Value, pointer: &str, faults: &mut Vec<Fault>);

/// How an action answers, as a composition writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On the spot.
    Sync,
    /// As a job.
    Async,
    /// On the spot until a deadline, as a job from then on.
    Auto,
}

impl Mode {
    /// Every mode.
    pub const ALL: &'static [Self] = &[Self::Sync, Self::Async, Self::Auto];

    /// The mode's name in a composition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
            Self::Auto => "auto",
        }
    }

    /// The mode of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.as_str() == text)
    }
}

/// The modes that an operation supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Whether it may answer on the spot.
    pub sync: bool,
    /// Whether it may be a job: the mode `async`.
    pub asynchronous: bool,
    /// Whether it may turn from one into the other.
    pub auto: bool,
}

impl Modes {
    /// All of them.
    pub const ALL: Self = Self {
        sync: true,
        asynchronous: true,
        auto: true,
    };
    /// Jobs alone.
    pub const ASYNC: Self = Self {
        sync: false,
        asynchronous: true,
        auto: false,
    };

    /// Whether `mode` is one of them.
    pub const fn contains(self, mode: Mode) -> bool {
        match mode {
            Mode::Sync => self.sync,
            Mode::Async => self.asynchronous,
            Mode::Auto => self.auto,
        }
    }
}

/// Who runs an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The deployment: the pattern's own code.
    Executor,
    /// Workers elsewhere, which ask for jobs of the pool that the instance's configuration names as `pool`, or else of
    /// the pool of the instance's name.
    Pull,
}

/// One operation of a pattern.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name, behind the dot of `run`.
    pub name: &'static str,
    /// One sentence for a person.
    pub description: &'static str,
    /// The modes it supports.
    pub modes: Modes,
    /// The mode of an action that names none.
    pub default_mode: Mode,
    /// Whether a hub may run it itself: it computes next to nothing, so that it holds up no socket. Waiting is free.
    pub runs_in_hub: bool,
    /// Who runs it.
    pub runs: Runs,
    /// Whether its attempts may share an invocation of the executor.
    pub sharing: Sharing,
    /// Checks the settings of an action that runs it.
    pub check_settings: CheckSettings,
}

/// What a pattern offers.
#[derive(Debug, Clone, Copy)]
pub struct Manifest {
    /// The pattern's name, the `use` of an instance.
    pub pattern: &'static str,
    /// One sentence for a person.
    pub description: &'static str,
    /// Its operations.
    pub operations: &'static [Operation],
    /// Checks the configuration of an instance.
    pub check_config: CheckConfig,
}

impl Manifest {
    /// The operation of this name.
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        self.operations.iter().find(|operation| operation.name == name)
    }

    /// Whether the manifest agrees with itself: every operation supports its own default mode, and what may answer on
    /// the spot, or share an invocation, may run in a hub, and what workers run is always a job. For `const _: () = assert!(MANIFEST.is_sound());` beside each manifest.
    pub const fn is_sound(&self) -> bool {
        let mut rest = self.operations;
        while let [operation, others @ ..] = rest {
            let shares_too_much = matches!(operation.sharing, Sharing::Shared) && !operation.runs_in_hub;
            let waits_for_nobody = operation.modes.sync || operation.modes.auto;
            if !operation.modes.contains(operation.default_mode)
                || (matches!(operation.runs, Runs::Pull) && waits_for_nobody)
                || (operation.modes.sync && !operation.runs_in_hub)
                || shares_too_much
            {
                return false;
            }
            rest = others;
        }
        !self.operations.is_empty()
    }
}

/// The check of a pattern that has nothing to configure: an empty object alone is right.
pub fn takes_nothing(config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    if let Some(object) = Object::read(config, pointer, faults) {
        object.finish();
    }
}

/// The check of an operation that has no settings: an empty object alone is right.
pub fn takes_no_settings(settings: &Value, _config: &Value, pointer: &str, faults: &mut Vec<Fault>) {
    takes_nothing(settings, pointer, faults);
}
