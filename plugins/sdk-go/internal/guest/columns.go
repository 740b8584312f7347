package guest

import (
	"encoding/binary"
	"fmt"
	"math/big"
	mathbits "math/bits"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// Date is a day: days since 1970-01-01.
type Date int32

// Time is midnight of that day, UTC.
func (d Date) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// Timestamp is an instant: microseconds since 1970-01-01T00:00:00Z.
type Timestamp int64

// Time is that instant in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMicro(int64(t)).UTC() }

// JSON is the text of one JSON value.
type JSON string

// Decimal is a decimal number: 128 bits divided by 10 to the power of Scale.
type Decimal struct {
	Low   uint64
	High  int64
	Scale int8
}

// Unscaled is all its digits, as an integer.
func (d Decimal) Unscaled() *big.Int {
	number := new(big.Int).Lsh(big.NewInt(d.High), 64)
	return number.Or(number, new(big.Int).SetUint64(d.Low))
}

// The contract's `logical-type`; the case of a `column` is one more.
const (
	boolean = iota
	int32s
	int64s
	float64s
	dates
	timestamps
	decimals
	texts
	blobs
	jsons
)

var types = map[reflect.Type]int{
	reflect.TypeFor[*bool]():      boolean,
	reflect.TypeFor[*int32]():     int32s,
	reflect.TypeFor[*int64]():     int64s,
	reflect.TypeFor[*float64]():   float64s,
	reflect.TypeFor[*Date]():      dates,
	reflect.TypeFor[*Timestamp](): timestamps,
	reflect.TypeFor[*Decimal]():   decimals,
	reflect.TypeFor[*string]():    texts,
	reflect.TypeFor[*[]byte]():    blobs,
	reflect.TypeFor[*JSON]():      jsons,
}

// Field is a column: a field of the struct of a row, or of what is added.
type Field struct {
	name     string // of the field
	path     string // of the column
	ty       int
	required bool
	offset   uintptr
	digits   [2]int
}

// Fields are the columns that a row has.
func Fields(row reflect.Type) ([]Field, error) { return fields(row, "row") }

// Adds are the columns that an enricher adds.
func Adds(added reflect.Type) ([]Field, error) { return fields(added, "column") }

func fields(of reflect.Type, tag string) ([]Field, error) {
	if of.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%v is no struct", of)
	}
	var all []Field
	for i := range of.NumField() {
		field := of.Field(i)
		where := of.Name() + "." + field.Name
		text, has := field.Tag.Lookup(tag)
		if !has {
			return nil, fmt.Errorf("%s says no column: give it a tag `%s:\"…\"`", where, tag)
		}
		ty, has := types[field.Type]
		if !has {
			return nil, fmt.Errorf("%s is %v: a column is *bool, *int32, *int64, *float64, *string, *[]byte, *sluice.Date, "+
				"*sluice.Timestamp, *sluice.Decimal or *sluice.JSON", where, field.Type)
		}
		parts := strings.Split(text, ",")
		one := Field{name: field.Name, path: parts[0], ty: ty, required: true, offset: field.Offset}
		for i, part := range parts[1:] {
			number, err := strconv.Atoi(part)
			switch {
			case part == "optional" && tag == "row":
				one.required = false
			case err == nil && ty == decimals && tag == "column" && i < 2:
				one.digits[i] = number
			default:
				return nil, fmt.Errorf("%s: `%s` is not known in its tag", where, part)
			}
		}
		if ty == decimals && tag == "column" && one.digits[0] == 0 {
			return nil, fmt.Errorf("%s: an added decimal says its digits: `column:\"%s,10,2\"`", where, one.path)
		}
		all = append(all, one)
	}
	return all, nil
}

// Requests are the fields as the host is asked for them.
func Requests(fields []Field) List {
	list := NewList(len(fields), requestSize)
	for i, field := range fields {
		one := list.At(i)
		one.PutText(0, field.path)
		one[8] = byte(field.ty)
		if field.required {
			one[9] = 1
		}
	}
	return list
}

// Produces are the fields as the host is told of them.
func Produces(fields []Field) List {
	list := NewList(len(fields), producedSize)
	for i, field := range fields {
		one := list.At(i)
		one.PutText(0, field.path)
		one[8], one[9], one[10] = byte(field.ty), byte(field.digits[0]), byte(field.digits[1])
	}
	return list
}

// Indexes of fields by name, as 16 bits each; all of them where there is no name.
func Indexes(fields []Field, names []string) ([]byte, error) {
	out := []byte{}
	for i, field := range fields {
		if len(names) == 0 {
			out = binary.LittleEndian.AppendUint16(out, uint16(i))
		}
		for _, name := range names {
			if name == field.name {
				out = binary.LittleEndian.AppendUint16(out, uint16(i))
			}
		}
	}
	if len(names) > 0 && len(out) != 2*len(names) {
		return nil, fmt.Errorf("%v, which are not all fields of the row", names)
	}
	Keep(out)
	return out, nil
}

// Block is how many rows are made at once: they and what they lead to fit into a processor's nearest cache.
const Block = 256

// View is the columns of a batch, made rows a block at a time, column by column: the loops over the values of a column call
// nothing, since a loop with a call in it costs five times one without. It serves one call after the other.
type View struct {
	fields []Field
	cells  []cell
	rows   []uintptr // Block of them; the collector must not look at what their fields led to in an earlier call
	size   uintptr   // of one
}

// A column whose shape was checked, so that its values are read without checking bounds. The host's buffers are kept by `passed`.
type cell struct {
	data, offsets, validity unsafe.Pointer // validity: nil where none is null
	scale                   int8
	isAbsent                bool
	made                    []uintptr // what the fields of a block lead to, where that is not the column itself
	first, stride           uintptr   // what the fields of a block lead to now, where it is present
	present                 bits
}

// header is a string in memory, or with room a slice of bytes. Its address is a number: to write pointers, the compiler calls
// the collector. What they lead to is kept by `passed`.
type header struct{ data, bytes uintptr }

type slice struct {
	header
	room uintptr
}

var widths = [...]int{int32s: 4, int64s: 8, float64s: 8, dates: 4, timestamps: 8, decimals: 16, jsons: 0}

// NewView makes one, for rows of that size.
func NewView(fields []Field, size uintptr) *View {
	view := &View{fields, make([]cell, len(fields)), make([]uintptr, Block*size/8), size}
	for i, field := range fields {
		words := uintptr(0)
		switch {
		case field.ty == boolean:
			words = Block / 8
		case field.ty == decimals:
			words = Block * unsafe.Sizeof(Decimal{}) / 8
		case field.ty == blobs:
			words = Block * unsafe.Sizeof(slice{}) / 8
		case field.ty >= texts:
			words = Block * unsafe.Sizeof(header{}) / 8
		}
		view.cells[i].made = make([]uintptr, words)
	}
	return view
}

// Rows are the rows of a block, as an array.
func (v *View) Rows() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v.rows)) }

// Open checks the shape of every column once, so that reading it need not.
func (v *View) Open(batch Batch) error {
	if len(batch.columns) != len(v.fields) {
		return fmt.Errorf("the host passed %d columns of %d", len(batch.columns), len(v.fields))
	}
	rows := int(batch.Rows)
	for i, field := range v.fields {
		column, c := batch.columns[i], &v.cells[i]
		var data, offsets, validity []byte
		need := rows * widths[field.ty]
		c.isAbsent = column[0] == 0
		switch {
		case c.isAbsent:
			continue
		case int(column[0]) != field.ty+1:
			return fmt.Errorf("the host passed `%s` in another type than it was asked for", field.path)
		case field.ty == decimals:
			c.scale, data, validity = int8(column[5]), column.list(8), column.list(16)
		case field.ty >= texts:
			offsets, data, validity = column.list(4), column.list(12), column.list(20)
		default:
			data, validity = column.list(4), column.list(12)
			if field.ty == boolean {
				need = (rows + 7) / 8
			}
		}
		if len(data) < need || (field.ty >= texts && len(offsets) < 4*(rows+1)) ||
			(len(validity) > 0 && len(validity) < (rows+7)/8) {
			return fmt.Errorf("the host passed `%s` shorter than %d rows", field.path, rows)
		}
		if field.ty >= texts && rows > 0 && int(binary.LittleEndian.Uint32(offsets[4*rows:])) > len(data) {
			return fmt.Errorf("the host passed `%s` with offsets beyond its data", field.path)
		}
		c.data, c.offsets, c.validity = start(data), start(offsets), nil
		if len(validity) > 0 {
			c.validity = start(validity)
		}
	}
	return nil
}

func start(of []byte) unsafe.Pointer {
	if len(of) == 0 {
		return unsafe.Pointer(&nothing) // the host passes no address for it
	}
	return unsafe.Pointer(unsafe.SliceData(of))
}

// Fill sets the fields of count rows, of which the first is the row `from` of the batch: a multiple of Block.
func (v *View) Fill(from, count uintptr) {
	for n, field := range v.fields {
		c := &v.cells[n]
		made := unsafe.Pointer(unsafe.SliceData(c.made))
		first, stride := uintptr(made), uintptr(0)
		switch {
		case c.isAbsent:
			first = 0
		case field.ty == boolean:
			flags(made, unsafe.Add(c.data, from/8), count)
			stride = 1
		case field.ty == decimals:
			numbers(made, unsafe.Add(c.data, 16*from), c.scale, count)
			stride = unsafe.Sizeof(Decimal{})
		case field.ty == blobs:
			slices(made, unsafe.Add(c.offsets, 4*from), uintptr(c.data), count)
			stride = unsafe.Sizeof(slice{})
		case field.ty >= texts:
			pieces(made, unsafe.Add(c.offsets, 4*from), uintptr(c.data), count)
			stride = unsafe.Sizeof(header{})
		default:
			stride = uintptr(widths[field.ty])
			first = uintptr(c.data) + from*stride
		}
		fields := unsafe.Add(v.Rows(), field.offset)
		if c.first != first || c.stride != stride {
			leadAll(fields, v.size, first, stride)
			c.first, c.stride, c.present = first, stride, everywhere
		}
		validity := &everywhere
		if c.validity != nil && !c.isAbsent {
			validity = (*bits)(unsafe.Add(c.validity, from/8))
		}
		lead(fields, v.size, first, stride, &c.present, validity, (count+63)/64)
	}
}

// bits says for each row of a block whether a value is present.
type bits [Block / 64]uint64

// Where no value is null.
var everywhere = func() (all bits) {
	for i := range all {
		all[i] = ^uint64(0)
	}
	return all
}()

// lead sets the same field of some rows to where its value is, or to nil, where it is not that already: mostly it is. As with a
// header, a pointer is written as a number. The bits behind the last row mean nothing, and the host's buffers have room for
// whole words.
//
//go:noinline
func lead(field unsafe.Pointer, size, value, stride uintptr, present *bits, validity *bits, words uintptr) {
	for at := uintptr(0); at < words; at++ {
		now := validity[at]
		changed := present[at] ^ now
		present[at] = now
		for ; changed != 0; changed &= changed - 1 {
			bit := uintptr(mathbits.TrailingZeros64(changed))
			row := 64*at + bit
			*(*uintptr)(unsafe.Add(field, row*size)) = (value + row*stride) & -uintptr(now>>bit&1)
		}
	}
}

//go:noinline
func leadAll(field unsafe.Pointer, size, value, stride uintptr) {
	for i := uintptr(0); i < Block; i++ {
		*(*uintptr)(unsafe.Add(field, i*size)) = value
		value += stride
	}
}

// pieces are the pieces of data that end there, end to end. Also the address of an empty one is within the host's buffer, which
// has room to spare.
//
//go:noinline
func pieces(to, ends unsafe.Pointer, data, count uintptr) {
	begin := uintptr(*(*uint32)(ends))
	i := uintptr(0)
	for ; i+8 <= count; i += 8 { // to go round is as dear as what is done
		next := (*[9]uint32)(unsafe.Add(ends, 4*i))
		a, b, c, d := uintptr(next[1]), uintptr(next[2]), uintptr(next[3]), uintptr(next[4])
		e, f, g, h := uintptr(next[5]), uintptr(next[6]), uintptr(next[7]), uintptr(next[8])
		eight := (*[8]header)(unsafe.Add(to, i*unsafe.Sizeof(header{})))
		eight[0], eight[1], eight[2], eight[3] = piece(data, begin, a), piece(data, a, b), piece(data, b, c), piece(data, c, d)
		eight[4], eight[5], eight[6], eight[7] = piece(data, d, e), piece(data, e, f), piece(data, f, g), piece(data, g, h)
		begin = h
	}
	for ; i < count; i++ {
		end := uintptr(*(*uint32)(unsafe.Add(ends, 4*i+4)))
		*(*header)(unsafe.Add(to, i*unsafe.Sizeof(header{}))) = piece(data, begin, end)
		begin = end
	}
}

func piece(data, begin, end uintptr) header { return header{data + begin, end - begin} }

// nothing is where an empty slice of bytes begins, which is not nil.
var nothing [1]byte

//go:noinline
func slices(to, ends unsafe.Pointer, data, count uintptr) {
	begin := uintptr(*(*uint32)(ends))
	for i := uintptr(1); i <= count; i++ {
		end := uintptr(*(*uint32)(unsafe.Add(ends, 4*i)))
		one := slice{header{data + begin, end - begin}, end - begin}
		if end == begin {
			one.data = uintptr(unsafe.Pointer(&nothing))
		}
		*(*slice)(to) = one
		to, begin = unsafe.Add(to, unsafe.Sizeof(one)), end
	}
}

//go:noinline
func flags(to, bits unsafe.Pointer, count uintptr) {
	for i := uintptr(0); i < count; i++ {
		*(*byte)(unsafe.Add(to, i)) = *(*byte)(unsafe.Add(bits, i>>3)) >> (i & 7) & 1
	}
}

//go:noinline
func numbers(to, data unsafe.Pointer, scale int8, count uintptr) {
	for i := uintptr(0); i < count; i++ {
		low, high := *(*uint64)(unsafe.Add(data, 16*i)), *(*int64)(unsafe.Add(data, 16*i+8))
		*(*Decimal)(unsafe.Add(to, i*unsafe.Sizeof(Decimal{}))) = Decimal{low, high, scale}
	}
}

// Builder collects what an enricher adds.
type Builder struct {
	Row    uint32
	Origin []byte // the row that each added one came from
	many   bool
	rows   int
	cols   []collected
}

type collected struct {
	Field
	data, offsets, validity []byte
	nulls                   int
}

// NewBuilder makes an empty one.
func NewBuilder(adds []Field, many bool) *Builder {
	b := &Builder{many: many}
	for _, field := range adds {
		b.cols = append(b.cols, collected{Field: field, offsets: make([]byte, 4)})
	}
	return b
}

// Push appends the row that the pointer leads to.
func (b *Builder) Push(added unsafe.Pointer) {
	for n := range b.cols {
		c := &b.cols[n]
		value := *(*unsafe.Pointer)(unsafe.Add(added, c.offset))
		bit := b.rows & 7
		if bit == 0 {
			c.validity = append(c.validity, 0)
			if c.ty == boolean {
				c.data = append(c.data, 0)
			}
		}
		if value == nil {
			c.nulls++
		} else {
			c.validity[b.rows>>3] |= 1 << bit
		}
		switch {
		case c.ty == boolean:
			if value != nil && *(*bool)(value) {
				c.data[b.rows>>3] |= 1 << bit
			}
		case c.ty >= texts:
			if value != nil && c.ty == blobs {
				c.data = append(c.data, *(*[]byte)(value)...)
			} else if value != nil {
				c.data = append(c.data, *(*string)(value)...)
			}
			c.offsets = binary.LittleEndian.AppendUint32(c.offsets, uint32(len(c.data)))
		case value == nil:
			c.data = append(c.data, make([]byte, widths[c.ty])...)
		case c.ty == decimals:
			number := *(*Decimal)(value)
			if int(number.Scale) != c.digits[1] {
				panic(fmt.Sprintf("`%s` was declared with %d digits behind the point, and has %d", c.path, c.digits[1], number.Scale))
			}
			c.data = binary.LittleEndian.AppendUint64(c.data, number.Low)
			c.data = binary.LittleEndian.AppendUint64(c.data, uint64(number.High))
		default:
			c.data = append(c.data, unsafe.Slice((*byte)(value), widths[c.ty])...)
		}
	}
	b.rows++
	if b.many {
		b.Origin = binary.LittleEndian.AppendUint32(b.Origin, b.Row)
	}
}

// Columns are the added columns as the host reads them.
func (b *Builder) Columns() List {
	list := NewList(len(b.cols), columnSize)
	for i := range b.cols {
		c, one := &b.cols[i], list.At(i)
		if c.nulls == 0 {
			c.validity = nil
		}
		one[0] = byte(c.ty + 1)
		switch {
		case c.ty == decimals:
			one[4], one[5] = byte(c.digits[0]), byte(c.digits[1])
			one.PutBytes(8, c.data, len(c.data))
			one.PutBytes(16, c.validity, len(c.validity))
		case c.ty >= texts:
			one.PutBytes(4, c.offsets, len(c.offsets))
			one.PutBytes(12, c.data, len(c.data))
			one.PutBytes(20, c.validity, len(c.validity))
		default:
			one.PutBytes(4, c.data, len(c.data))
			one.PutBytes(12, c.validity, len(c.validity))
		}
	}
	return list
}
