//! What people read when a file is wrong.

use std::{fs, os::unix::fs::symlink, path::Path};

use proptest::prelude::*;

use super::*;
