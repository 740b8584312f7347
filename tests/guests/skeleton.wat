;; What every guest of these tests shares: an allocator, the host's log, and functions to look at the one column it
;; reads, `n` of int64. Names, DATA and the bodies are filled in by guests.rs.
(module
  IMPORTS
  (memory (export "memory") 2)
  ;; 0..1024 scratch · 1024 an empty answer · 2048 an answer under construction · 8192 the description · 65536 the heap
  (global $top (mut i32) (i32.const 65536))
  (func $allocate (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
      (result i32)
    ALLOCATE_BODY)
  (func $bump (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow
        (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1))))))
    (local.get $at))
  ;; n of a row
  (func $n (param $columns i32) (param $row i32) (result i64)
    (i64.load (i32.add (i32.load offset=4 (local.get $columns)) (i32.mul (local.get $row) (i32.const 8)))))
  ;; the row whose n is 13; −1 where there is none
  (func $thirteen (param $rows i32) (param $columns i32) (result i32)
    (local $row i32)
    (loop $next
      (if (i32.ge_u (local.get $row) (local.get $rows)) (then (return (i32.const -1))))
      (if (i64.eq (call $n (local.get $columns) (local.get $row)) (i64.const 13)) (then (return (local.get $row))))
      (local.set $row (i32.add (local.get $row) (i32.const 1)))
      (br $next))
    (unreachable))
  ;; a plugin-error of `case` with a text
  (func $refuse (param $case i32) (param $text i32) (param $len i32) (result i32)
    (i32.store8 offset=2048 (i32.const 0) (i32.const 1))
    (i32.store8 offset=2052 (i32.const 0) (local.get $case))
    (i32.store offset=2056 (i32.const 0) (local.get $text))
    (i32.store offset=2060 (i32.const 0) (local.get $len))
    (i32.const 2048))
  ;; an answer of one list
  (func $answer (param $at i32) (param $len i32) (result i32)
    (i32.store offset=2048 (i32.const 0) (i32.const 0))
    (i32.store offset=2052 (i32.const 0) (local.get $at))
    (i32.store offset=2056 (i32.const 0) (local.get $len))
    (i32.const 2048))
  ;; one finding at `at`: row, code, column or −1, detail or length −1
  (func $finding (param $at i32) (param $row i32) (param $code i32) (param $column i32) (param $text i32) (param $len i32)
    (i32.store (local.get $at) (local.get $row))
    (i32.store16 offset=4 (local.get $at) (local.get $code))
    (i32.store8 offset=6 (local.get $at) (i32.ne (local.get $column) (i32.const -1)))
    (i32.store16 offset=8 (local.get $at) (local.get $column))
    (i32.store8 offset=12 (local.get $at) (i32.ne (local.get $len) (i32.const -1)))
    (i32.store offset=16 (local.get $at) (local.get $text))
    (i32.store offset=20 (local.get $at) (local.get $len)))
  ;; `many` findings on one row at 3000, each with the same `len` bytes of detail; none where `len` is −1
  (func $repeat (param $row i32) (param $len i32) (param $many i32)
    (local $i i32)
    (loop $next
      (call $finding (i32.add (i32.const 3000) (i32.mul (local.get $i) (i32.const 24)))
        (local.get $row) (i32.const 0) (i32.const -1) (i32.const 70000) (local.get $len))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $many)))))
  ;; an enricher's answer of one column of `kind`: its bytes, then its offsets where it has any
  (func $column (param $rows i32) (param $kind i32) (param $data i32) (param $size i32) (param $offsets i32) (param $offsets_size i32)
      (result i32)
    ;; result ok · rows none · columns at 2100, one
    (i32.store offset=2048 (i32.const 0) (i32.const 0))
    (i32.store offset=2052 (i32.const 0) (i32.const 0))
    (i32.store offset=2064 (i32.const 0) (i32.const 2100))
    (i32.store offset=2068 (i32.const 0) (i32.const 1))
    (i32.store8 offset=2100 (i32.const 0) (local.get $kind))
    (if (local.get $offsets)
      (then
        (i32.store offset=2104 (i32.const 0) (local.get $offsets))
        (i32.store offset=2108 (i32.const 0) (local.get $offsets_size))
        (i32.store offset=2112 (i32.const 0) (local.get $data))
        (i32.store offset=2116 (i32.const 0) (local.get $size))
        (i32.store offset=2120 (i32.const 0) (i32.const 0))
        (i32.store offset=2124 (i32.const 0) (i32.const 0)))
      (else
        (i32.store offset=2104 (i32.const 0) (local.get $data))
        (i32.store offset=2108 (i32.const 0) (local.get $size))
        (i32.store offset=2112 (i32.const 0) (i32.const 0))
        (i32.store offset=2116 (i32.const 0) (i32.const 0))))
    (i32.const 2048))
  ;; names input rows in the answer that $column made
  (func $origin (param $list i32) (param $len i32)
    (i32.store offset=2052 (i32.const 0) (i32.const 1))
    (i32.store offset=2056 (i32.const 0) (local.get $list))
    (i32.store offset=2060 (i32.const 0) (local.get $len)))
  EXTRA
  (func (export "CONFIGURE") (param i32 i32) (result i32)
    CONFIGURE_BODY)
  (func (export "CALL") (param $rows i32) (param $columns i32) (param $count i32) (result i32)
    CALL_BODY)
  (data (i32.const 8192) "DATA")
)
