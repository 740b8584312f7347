package guest

import (
	"encoding/binary"
	"fmt"
	"math/big"
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

// View is the columns of a batch, read row by row.
type View struct{ cells []cell }

// A column whose shape was checked, so that its values are read without checking bounds: they lie one after another, as Go has
// them. The host's buffers are kept by `passed`.
type cell struct {
	field    uintptr
	values   unsafe.Pointer // nil, with a stride of 0: all are null
	stride   uintptr
	validity unsafe.Pointer // nil: none is null
}

// header is a string in memory, or with room a slice of bytes. Its address is a number: to write pointers, the compiler calls
// the collector, and a loop with a call in it costs five times one without. What they lead to is kept by `passed`.
type header struct{ data, bytes uintptr }

type slice struct {
	header
	room uintptr
}

var widths = [...]int{int32s: 4, int64s: 8, float64s: 8, dates: 4, timestamps: 8, decimals: 16, jsons: 0}

// Open checks the shape of every column once, so that reading a row need not.
func Open(fields []Field, batch Batch) (*View, error) {
	view := &View{make([]cell, len(fields))}
	if len(batch.columns) != len(fields) {
		return nil, fmt.Errorf("the host passed %d columns of %d", len(batch.columns), len(fields))
	}
	rows := int(batch.Rows)
	for i, field := range fields {
		column, c := batch.columns[i], &view.cells[i]
		c.field, c.stride = field.offset, uintptr(widths[field.ty])
		var data, offsets, validity []byte
		need := rows * widths[field.ty]
		switch {
		case column[0] == 0:
			c.stride = 0
			continue
		case int(column[0]) != field.ty+1:
			return nil, fmt.Errorf("the host passed `%s` in another type than it was asked for", field.path)
		case field.ty == decimals:
			data, validity = column.list(8), column.list(16)
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
			return nil, fmt.Errorf("the host passed `%s` shorter than %d rows", field.path, rows)
		}
		if len(validity) > 0 {
			c.validity = unsafe.Pointer(unsafe.SliceData(validity))
		}
		if rows == 0 {
			continue
		}
		switch field.ty {
		case texts, jsons, blobs:
			if int(binary.LittleEndian.Uint32(offsets[4*rows:])) > len(data) {
				return nil, fmt.Errorf("the host passed `%s` with offsets beyond its data", field.path)
			}
			ends := unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(offsets))), rows+1)
			if field.ty == blobs {
				c.values, c.stride = slices(ends, data), unsafe.Sizeof(slice{})
			} else {
				c.values, c.stride = pieces(ends, data), unsafe.Sizeof(header{})
			}
		case boolean:
			c.values, c.stride = flags(data, rows), 1
		case decimals:
			c.values, c.stride = numbers(data, rows, int8(column[5])), unsafe.Sizeof(Decimal{})
		default:
			c.values = unsafe.Pointer(unsafe.SliceData(data))
		}
	}
	return view, nil
}

// pieces are the pieces of data that end there, end to end. An empty one has no address: it might be that of another block.
func pieces(ends []uint32, data []byte) unsafe.Pointer {
	all := make([]header, len(ends)-1)
	first, start := uintptr(unsafe.Pointer(unsafe.SliceData(data))), ends[0]
	for i := range all {
		end := *(*uint32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(ends)), 4*i+4))
		if end != start {
			all[i] = header{first + uintptr(start), uintptr(end - start)}
		}
		start = end
	}
	return unsafe.Pointer(unsafe.SliceData(all))
}

// nothing is where an empty slice of bytes begins, which is not nil.
var nothing [1]byte

func slices(ends []uint32, data []byte) unsafe.Pointer {
	all := make([]slice, len(ends)-1)
	first, empty := uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(unsafe.Pointer(&nothing))
	for i := range all {
		size := uintptr(ends[i+1] - ends[i])
		all[i] = slice{header{empty, 0}, 0}
		if size > 0 {
			all[i] = slice{header{first + uintptr(ends[i]), size}, size}
		}
	}
	return unsafe.Pointer(unsafe.SliceData(all))
}

func flags(bits []byte, rows int) unsafe.Pointer {
	all := make([]bool, rows)
	for i := range all {
		all[i] = bits[i>>3]>>(i&7)&1 == 1
	}
	return unsafe.Pointer(unsafe.SliceData(all))
}

func numbers(data []byte, rows int, scale int8) unsafe.Pointer {
	all := make([]Decimal, rows)
	for i := range all {
		words := data[16*i:]
		all[i] = Decimal{binary.LittleEndian.Uint64(words), int64(binary.LittleEndian.Uint64(words[8:])), scale}
	}
	return unsafe.Pointer(unsafe.SliceData(all))
}

// Read sets the fields of a row. As with a header, they are written as numbers; whoever calls keeps the view.
func (v *View) Read(row unsafe.Pointer, i uint32) {
	for n := range v.cells {
		c := &v.cells[n]
		value := uintptr(c.values) + uintptr(i)*c.stride
		if c.validity != nil && *(*byte)(unsafe.Add(c.validity, i>>3))>>(i&7)&1 == 0 {
			value = 0
		}
		*(*uintptr)(unsafe.Add(row, c.field)) = value
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
