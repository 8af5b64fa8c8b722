//! The one binary: everything it can do stands in the library beside it, so that tests reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    podkeep::cli::main()
}
