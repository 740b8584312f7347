;; wasi_snapshot_preview1 for guests that may have nothing of it: `sluice build` links this into components of languages
;; that insist on WASI (Go, Rust on wasip1), so that the component imports `sluice:plugin/host` at most.
;;
;; Inert: a clock that only sleeping advances, the same random bytes at every call, no files, no arguments, no
;; environment, no sockets. What is written to standard output and error goes to the host's log, a line at a time.
;; Nothing but that output calls an import: Go's collector asks the clock from within `cabi_realloc`, where a component
;; must not call out. It has no memory of its own (wit-component allows none), so a line that is written in pieces is
;; logged in pieces.
(module
  (import "sluice:plugin/host@VERSION" "log" (func $log (param $level i32) (param $text i32) (param $bytes i32)))
  (import "env" "memory" (memory 0))

  ;; nanoseconds; 1970-01-01T00:00:01Z, since a monotonic clock that reads 0 is taken for one that never ran
  (global $now (mut i64) (i64.const 1000000000))

  ;; error numbers of preview 1
  (global $BADF i32 (i32.const 8))
  (global $NOENT i32 (i32.const 44))
  (global $NOTSOCK i32 (i32.const 57))
  (global $SPIPE i32 (i32.const 70))

  ;; `host.level`
  (global $INFO i32 (i32.const 2))
  (global $WARN i32 (i32.const 3))

  (func $is_standard (param $fd i32) (result i32)
    (i32.lt_u (local.get $fd) (i32.const 3)))

  ;; 0 for standard input, output and error, BADF for all others
  (func $only_standard (param $fd i32) (result i32)
    (select (i32.const 0) (global.get $BADF) (call $is_standard (local.get $fd))))

  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (func (export "args_sizes_get") (param i32 i32) (result i32) (call $none (local.get 0) (local.get 1)))
  (func (export "environ_sizes_get") (param i32 i32) (result i32) (call $none (local.get 0) (local.get 1)))
  (func (export "args_get") (param i32 i32) (result i32) (i32.const 0))
  (func (export "environ_get") (param i32 i32) (result i32) (i32.const 0))

  (func (export "clock_res_get") (param $clock i32) (param $to i32) (result i32)
    (i64.store (local.get $to) (i64.const 1))
    (i32.const 0))
  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $to i32) (result i32)
    (i64.store (local.get $to) (global.get $now))
    (i32.const 0))

  ;; a linear congruence from the same seed at every call; the high byte of each state, the low ones hardly vary
  (func (export "random_get") (param $to i32) (param $bytes i32) (result i32)
    (local $state i64)
    (local.set $state (i64.const 88172645463325252))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $bytes)))
        (local.set $state
          (i64.add (i64.mul (local.get $state) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
        (i64.store8 (local.get $to) (i64.shr_u (local.get $state) (i64.const 56)))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  (func (export "sched_yield") (result i32) (i32.const 0))

  ;; when a subscription to a clock is over
  (func $deadline (param $subscription i32) (result i64)
    (local $timeout i64)
    (local.set $timeout (i64.load offset=24 (local.get $subscription)))
    (if (result i64) (i32.and (i32.load16_u offset=40 (local.get $subscription)) (i32.const 1))
      (then (local.get $timeout))
      (else (i64.add (global.get $now) (local.get $timeout)))))

  ;; Sleeping takes no time: the clock goes to the earliest deadline, which has then come. A descriptor is never ready.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $events i32) (result i32)
    (local $i i32) (local $at i32) (local $tag i32) (local $first i64) (local $wait i64) (local $made i32)
    (local.set $first (i64.const -1)) ;; the largest, unsigned
    (block $scanned
      (loop $scan
        (br_if $scanned (i32.ge_u (local.get $i) (local.get $count)))
        (local.set $at (i32.add (local.get $in) (i32.mul (local.get $i) (i32.const 48))))
        (if (i32.eqz (i32.load8_u offset=8 (local.get $at)))
          (then
            (local.set $wait (call $deadline (local.get $at)))
            (if (i64.lt_u (local.get $wait) (local.get $first)) (then (local.set $first (local.get $wait))))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $scan)))
    (local.set $i (i32.const 0))
    (block $told
      (loop $tell
        (br_if $told (i32.ge_u (local.get $i) (local.get $count)))
        (local.set $at (i32.add (local.get $in) (i32.mul (local.get $i) (i32.const 48))))
        (local.set $tag (i32.load8_u offset=8 (local.get $at)))
        (if
          (if (result i32) (local.get $tag)
            (then (i32.const 1))
            (else (i64.le_u (call $deadline (local.get $at)) (local.get $first))))
          (then
            (memory.fill (local.get $out) (i32.const 0) (i32.const 32))
            (i64.store (local.get $out) (i64.load (local.get $at)))
            (i32.store16 offset=8 (local.get $out)
              (select (global.get $BADF) (i32.const 0) (local.get $tag)))
            (i32.store8 offset=10 (local.get $out) (local.get $tag))
            (local.set $out (i32.add (local.get $out) (i32.const 32)))
            (local.set $made (i32.add (local.get $made) (i32.const 1)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $tell)))
    ;; only now: relative deadlines are counted from the old time
    (if (i32.and (i64.ne (local.get $first) (i64.const -1)) (i64.gt_u (local.get $first) (global.get $now)))
      (then (global.set $now (local.get $first))))
    (i32.store (local.get $events) (local.get $made))
    (i32.const 0))

  ;; the lines of a piece of text, empty ones left out
  (func $write_lines (param $level i32) (param $text i32) (param $bytes i32)
    (local $end i32) (local $at i32)
    (local.set $end (i32.add (local.get $text) (local.get $bytes)))
    (local.set $at (local.get $text))
    (loop $next
      (if
        (if (result i32) (i32.ge_u (local.get $at) (local.get $end))
          (then (i32.const 1))
          (else (i32.eq (i32.load8_u (local.get $at)) (i32.const 10))))
        (then
          (if (i32.gt_u (local.get $at) (local.get $text))
            (then (call $log (local.get $level) (local.get $text) (i32.sub (local.get $at) (local.get $text)))))
          (local.set $text (i32.add (local.get $at) (i32.const 1)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $at) (local.get $end)))))

  (func (export "fd_write") (param $fd i32) (param $pieces i32) (param $count i32) (param $written i32) (result i32)
    (local $sum i32) (local $bytes i32)
    (if (i32.or (i32.eqz (local.get $fd)) (i32.eqz (call $is_standard (local.get $fd))))
      (then (return (global.get $BADF))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $bytes (i32.load offset=4 (local.get $pieces)))
        (call $write_lines
          (select (global.get $INFO) (global.get $WARN) (i32.eq (local.get $fd) (i32.const 1)))
          (i32.load (local.get $pieces))
          (local.get $bytes))
        (local.set $sum (i32.add (local.get $sum) (local.get $bytes)))
        (local.set $pieces (i32.add (local.get $pieces) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $written) (local.get $sum))
    (i32.const 0))

  ;; standard input is at its end
  (func (export "fd_read") (param $fd i32) (param $pieces i32) (param $count i32) (param $read i32) (result i32)
    (if (local.get $fd) (then (return (global.get $BADF))))
    (i32.store (local.get $read) (i32.const 0))
    (i32.const 0))

  ;; a character device, which no library takes for a file that it may seek in or map
  (func (export "fd_fdstat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.eqz (call $is_standard (local.get $fd))) (then (return (global.get $BADF))))
    (memory.fill (local.get $to) (i32.const 0) (i32.const 24))
    (i32.store8 (local.get $to) (i32.const 2))
    (i64.store offset=8 (local.get $to) (i64.const 0x42)) ;; it may be read and written
    (i32.const 0))
  (func (export "fd_filestat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.eqz (call $is_standard (local.get $fd))) (then (return (global.get $BADF))))
    (memory.fill (local.get $to) (i32.const 0) (i32.const 64))
    (i32.store8 offset=16 (local.get $to) (i32.const 2))
    (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (call $only_standard (local.get 0)))
  (func (export "fd_close") (param i32) (result i32) (call $only_standard (local.get 0)))
  (func (export "fd_sync") (param i32) (result i32) (call $only_standard (local.get 0)))
  (func (export "fd_datasync") (param i32) (result i32) (call $only_standard (local.get 0)))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32)
    (select (global.get $SPIPE) (global.get $BADF) (call $is_standard (local.get 0))))
  (func (export "fd_tell") (param i32 i32) (result i32)
    (select (global.get $SPIPE) (global.get $BADF) (call $is_standard (local.get 0))))

  ;; there is nobody to end the process for: the call fails, and the host says so
  (func (export "proc_exit") (param i32) (unreachable))
  (func (export "proc_raise") (param i32) (result i32) (unreachable))

  ;; no other descriptor exists
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (global.get $BADF))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (global.get $BADF))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (global.get $BADF))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (global.get $BADF))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (global.get $BADF))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (global.get $BADF))
  (func (export "fd_renumber") (param i32 i32) (result i32) (global.get $BADF))

  ;; there are no files
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (global.get $NOENT))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (global.get $NOENT))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (global.get $NOENT))

  ;; there is no network
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (global.get $NOTSOCK))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (global.get $NOTSOCK))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (global.get $NOTSOCK))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (global.get $NOTSOCK))
)
