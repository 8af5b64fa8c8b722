//! Strings as the kernel takes them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::PlanError;

pub(super) fn c_string(what: &'static str, text: &str) -> Result<CString, PlanError> {
    CString::new(text).map_err(|_| PlanError::ZeroByte { what, value: text.escape_default().to_string() })
}

pub(super) fn path(what: &'static str, path: &Path) -> Result<CString, PlanError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| PlanError::ZeroByte {
        what,
        value: path.display().to_string().escape_default().to_string(),
    })
}

pub(super) fn absolute(what: &'static str, path: &Path) -> Result<CString, PlanError> {
    if path.is_absolute() {
        self::path(what, path)
    } else {
        Err(PlanError::Relative { what, path: path.to_owned() })
    }
}
