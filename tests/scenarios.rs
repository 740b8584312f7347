//! Whole systems reproduced, with every number of theirs.

mod device_sidecar;
