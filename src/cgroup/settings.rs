//! Any values of interface files, in the order in which they are to be written.

use std::io;

use super::{Controller, Error, Group};

/// One value of one interface file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whose file it is: without that controller, the setting is passed over and told by [`Settings::unmet`].
    /// `None` for one that must be there: a missing file is an error.
    pub controller: Option<Controller>,
    /// A name without `/`, such as `memory.high`.
    pub file: String,
    /// What one write(2) hands to the kernel.
    pub value: String,
    /// A file and a value that say the same, written in its place where the kernel has that file.
    pub rather: Option<(String, String)>,
}

/// Settings in the order in which [`Group::apply`] writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    pub fn push(&mut self, controller: Option<Controller>, file: impl Into<String>, value: impl ToString) {
        self.0.push(Setting { controller, file: file.into(), value: value.to_string(), rather: None });
    }

    /// As [`Settings::push`], for what some kernels have another file for: that comes first, with its value.
    pub fn push_rather(
        &mut self,
        controller: Controller,
        [rather, file]: [&str; 2],
        [first, value]: [String; 2],
    ) {
        let rather = Some((rather.to_owned(), first));
        self.0.push(Setting { controller: Some(controller), file: file.to_owned(), value, rather });
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Setting> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What [`Group::apply`] passes over in that group for want of a controller, one line each for a person to read.
    pub fn unmet(&self, group: &Group) -> Vec<String> {
        let lacking = |setting: &&Setting| setting.controller.is_some_and(|c| !group.has(c));
        self.iter()
            .filter(lacking)
            .map(|Setting { file, value, .. }| format!("{file} = {value}: its controller is not there"))
            .collect()
    }
}

impl Group {
    /// Writes the settings one after the other; those whose controller is not there are passed over
    /// (see [`Settings::unmet`]).
    ///
    /// # Errors
    /// The first that the kernel refuses, or has no file for ([`Error::NoFile`]); those before it stay written.
    pub fn apply(&self, settings: &Settings) -> Result<(), Error> {
        settings
            .iter()
            .filter(|setting| setting.controller.is_none_or(|c| self.has(c)))
            .try_for_each(|setting| self.set(setting))
    }

    fn set(&self, Setting { file, value, rather, .. }: &Setting) -> Result<(), Error> {
        if let Some((file, value)) = rather {
            match self.directory().write(file, value) {
                Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                written => return written,
            }
        }
        match self.directory().write(file, value) {
            Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                // A kernel without swap (CONFIG_SWAP, `swapaccount=0`) has no such file, and nothing to limit.
                let idle = file == "memory.swap.max" && (value == "0" || value == "max");
                let missing = || Error::NoFile { path: self.path().join(file), value: value.clone() };
                idle.then_some(()).ok_or_else(missing)
            }
            written => written,
        }
    }
}
