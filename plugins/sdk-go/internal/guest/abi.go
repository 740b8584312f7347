// Package guest is what rules and enrichers share: the canonical ABI of the contract by hand, settings, columns.
//
// It is written by hand since generated bindings are larger and twice as slow: buffers stay where the host put them.
package guest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"unsafe"
)

// Sizes and numbers of the contract's types in memory.
const (
	requestSize  = 12
	producedSize = 12
	columnSize   = 28
	CodeSize     = 28
	FindingSize  = 24
	RuleSize     = 40
	EnricherSize = 40
	AnswerSize   = 16

	Reused = 1
)

// Level is how much a line of the log matters.
type Level = uint32

// Levels, as the host numbers them.
const (
	Info    Level = 2
	Warning Level = 3
	Failure Level = 4
)

//go:wasmimport sluice:plugin/host@0.1.0 log
func hostLog(level uint32, text unsafe.Pointer, bytes uint32)

// Log writes a line to the host's log.
func Log(level Level, message string) {
	hostLog(level, unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
	runtime.KeepAlive(message)
}

// Where the host puts what it passes: the nth of a call into the nth of these, unless that is too small. The next call finds it in
// the processor's cache, and the collector has nothing to do.
var passed []room

// How many of them the call at hand has used.
var used int

type room struct {
	at   unsafe.Pointer
	size uint32
}

// What the host reads after a call has returned, kept until the next.
var kept []any

//go:wasmexport cabi_realloc
func realloc(old, oldBytes, align, size uint32) uint32 {
	if size == 0 {
		return align
	}
	if used == len(passed) {
		passed = append(passed, room{})
	}
	to := &passed[used]
	used++
	if to.size <= size {
		*to = newRoom(size)
	}
	if old != 0 {
		copy(unsafe.Slice((*byte)(to.at), size), unsafe.Slice((*byte)(at(old)), min(oldBytes, size)))
	}
	return address(to.at)
}

// newRoom makes it somewhat larger, for the next call: what begins where the host's bytes end is in it, too. A builder's is not
// cleared, which the host writes to; whole words: then the allocator aligns them, too, and bits are read as words.
func newRoom(size uint32) room {
	size = (size + size/4 + 7) &^ 7
	var builder strings.Builder
	builder.Grow(int(size))
	return room{unsafe.Pointer(unsafe.StringData(builder.String())), size}
}

func at(address uint32) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), int(address)) }

func address(pointer unsafe.Pointer) uint32 { return uint32(uintptr(pointer)) }

// Release lets the next call have the room of this one.
func Release() { used = 0 }

// Keep holds on to what an answer points to.
func Keep(what any) { kept = append(kept, what) }

// Passed is a text that the host passed.
func Passed(text, bytes uint32) string { return strings.Clone(unsafe.String((*byte)(at(text)), bytes)) }

// Record is a value of the contract in memory.
type Record []byte

// NewRecord begins an answer: what the last one held is free.
func NewRecord(size int) Record { return make(Record, (size+7)&^7) }

// Put32 writes a number.
func (r Record) Put32(at int, value uint32) { binary.LittleEndian.PutUint32(r[at:], value) }

// Put16 writes a number.
func (r Record) Put16(at int, value uint16) { binary.LittleEndian.PutUint16(r[at:], value) }

// PutText writes where a text is. Whoever calls keeps it.
func (r Record) PutText(at int, text string) {
	r.Put32(at, address(unsafe.Pointer(unsafe.StringData(text))))
	r.Put32(at+4, uint32(len(text)))
	if len(text) == 0 {
		r.Put32(at, 1)
	}
}

// PutBytes writes where a list of count elements is. Whoever calls keeps it.
func (r Record) PutBytes(at int, data []byte, count int) {
	r.Put32(at, 8)
	if len(data) > 0 {
		r.Put32(at, address(unsafe.Pointer(&data[0])))
	}
	r.Put32(at+4, uint32(count))
}

// PutList writes where a list is, and keeps it.
func (r Record) PutList(at int, list List) {
	r.PutBytes(at, list.bytes, list.count)
	Keep(list.bytes)
}

// Return hands an answer to the host.
func (r Record) Return() uint32 {
	Keep(r)
	return address(unsafe.Pointer(&r[0]))
}

// List is values of one size, end to end.
type List struct {
	bytes       Record
	count, size int
}

// NewList makes room.
func NewList(count, size int) List { return List{NewRecord(count * size), count, size} }

// At is one of the values.
func (l List) At(i int) Record { return l.bytes[i*l.size : (i+1)*l.size] }

// Config says that the configuration is wrong.
func Config(text string) uint32 { return failed(0, text) }

// Internal says that anything else is.
func Internal(text string) uint32 { return failed(1, text) }

func failed(kind byte, text string) uint32 {
	answer := NewRecord(AnswerSize)
	answer[0], answer[4] = 1, kind
	answer.PutText(8, text)
	Keep(text)
	return answer.Return()
}

// Batch is the rows of a call.
type Batch struct {
	Rows    uint32
	columns []Record
}

// NewBatch reads the arguments of a call, and lets go of the last answer.
func NewBatch(rows, columns, count uint32) Batch {
	clear(kept)
	kept = kept[:0]
	batch := Batch{Rows: rows}
	for i := range count {
		column := unsafe.Slice((*byte)(at(columns+i*columnSize)), columnSize)
		batch.columns = append(batch.columns, column)
	}
	return batch
}

// get32 reads a number.
func (r Record) get32(at int) uint32 { return binary.LittleEndian.Uint32(r[at:]) }

// list is the bytes of a list that the host passed.
func (r Record) list(at_ int) []byte { return unsafe.Slice((*byte)(at(r.get32(at_))), r.get32(at_+4)) }

// Recover makes an error of a panic, with the line of the plugin at which it happened.
func Recover(row *uint32, problem *error) {
	what := recover()
	if what == nil {
		return
	}
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	where := ""
	for more := true; more && where == ""; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if !strings.HasPrefix(frame.Function, "runtime.") && !strings.HasPrefix(frame.Function, "sluice") {
			where = fmt.Sprintf("%s:%d: ", frame.File[strings.LastIndexByte(frame.File, '/')+1:], frame.Line)
		}
	}
	*problem = fmt.Errorf("%s%v (row %d of the call)", where, what, *row)
}

// Set is a setting: a list of texts, to be looked up.
type Set map[string]bool

// UnmarshalJSON reads a list.
func (s *Set) UnmarshalJSON(text []byte) error {
	var list []string
	if err := json.Unmarshal(text, &list); err != nil {
		return errors.New("it must be a list of texts")
	}
	*s = make(Set, len(list))
	for _, one := range list {
		(*s)[one] = true
	}
	return nil
}

// None is the settings of a plugin that has none.
type None struct{}

// Settings reads a configuration; a key that it does not know is an error.
func Settings(text string, to any) error {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(to)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
