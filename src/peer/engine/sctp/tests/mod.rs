//! Two associations over a link.

mod link;
mod transfer;

use std::time::Duration;

use bytes::Bytes;

use self::link::{Link, Pair};
use super::*;
