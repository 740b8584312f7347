//! The loop of whoever develops a pipeline or a plugin, without a broker where that is possible: describe, try, test, check,
//! measure, capture.

mod cases;
mod init;
mod plugin;
mod topic;
mod watch;
