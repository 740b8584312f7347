// Package sluice makes a Sluice rule of a plain function over one row.
//
//	type Visit struct { // the columns this rule reads; the host passes no others
//		Private *bool   `row:"keep_private"`
//		Login   *string `row:"context.user.login"`
//	}
//	type Settings struct{ Allow sluice.Set }
//
//	var exposed = sluice.Error("login-exposed", "a private visit carries a login")
//
//	func consent(v Visit, s *Settings, found *sluice.Found) {
//		if v.Private != nil && *v.Private && v.Login != nil && !s.Allow[*v.Login] {
//			found.Push(exposed)
//		}
//	}
//
//	func init() { sluice.Rule("consent", "1.2.0", consent, exposed) }
//	func main() {}
//
// A field is a pointer, nil where the value is null: "" is not null. What a pointer of a row leads to belongs to that row, and so
// do the bytes of a text: the next call writes over them. What must outlive the row, as a key of a map does, is made by
// strings.Clone. A verdict depends on the row and the settings alone. There is no clock (it stands still), no
// randomness, no file and no network. A panic costs the row it was given: a dead letter that says why.
//
// An enricher is a function from a row to what it adds: package sluice/enricher. This package exports a rule, that one an
// enricher; a plugin imports one of the two.
package sluice

import (
	"fmt"
	"reflect"
	"unsafe"

	"sluice/internal/guest"
)

type (
	// Set is a setting: a list of texts, to be looked up.
	Set = guest.Set
	// None is the settings of a plugin that has none.
	None = guest.None
	// Date is a day: days since 1970-01-01.
	Date = guest.Date
	// Timestamp is an instant: microseconds since 1970-01-01T00:00:00Z.
	Timestamp = guest.Timestamp
	// Decimal is a decimal number.
	Decimal = guest.Decimal
	// JSON is the text of one JSON value: how a struct, list or map is read whole.
	JSON = guest.JSON
)

// Log writes a line to the host's log.
func Log(message string) { guest.Log(guest.Info, message) }

// Code is a reason why a rule objects.
type Code struct {
	code, help string
	severity   byte
	reads      []string
	index      int
}

// Error is a code whose rows go to the error table. Reads names the fields whose values are shown beside it, by default all.
func Error(code, help string, reads ...string) *Code { return &Code{code, help, 0, reads, -1} }

// Warn is a code whose rows go on, and carry the finding.
func Warn(code, help string, reads ...string) *Code { return &Code{code, help, 1, reads, -1} }

// Found is where a rule puts what it finds.
type Found struct {
	row      uint32
	findings []byte
	details  []string
}

// Push objects to the row at hand.
func (f *Found) Push(code *Code) { f.push(code, "", false) }

// PushDetail says more than the code's help. The host caps its length.
func (f *Found) PushDetail(code *Code, detail string) { f.push(code, detail, true) }

func (f *Found) push(code *Code, detail string, has bool) {
	if code.index < 0 {
		panic(fmt.Sprintf("the code `%s` was not given to sluice.Rule", code.code))
	}
	at := len(f.findings)
	f.findings = append(f.findings, make([]byte, guest.FindingSize)...)
	one := guest.Record(f.findings[at:])
	one.Put32(0, f.row)
	one.Put16(4, uint16(code.index))
	if has {
		f.details = append(f.details, detail)
		one[12] = 1
		one.PutText(16, detail)
	}
}

type rule struct {
	name, version string
	fields        []guest.Field
	problem       error
	codes         []*Code
	settings      func(json string) error
	check         func(batch guest.Batch) (*Found, error)
}

var plugin *rule

// Rule is called once, from init. The function judges one row; codes are all that it may find.
func Rule[Row, Settings any](name, version string, check func(Row, *Settings, *Found), codes ...*Code) {
	fields, problem := guest.Fields(reflect.TypeFor[Row]())
	for i, code := range codes {
		code.index = i
	}
	view, settings := guest.NewView(fields, reflect.TypeFor[Row]().Size()), new(Settings)
	rows := (*[guest.Block]Row)(view.Rows())
	plugin = &rule{name: name, version: version, fields: fields, problem: problem, codes: codes}
	plugin.settings = func(json string) error {
		settings = new(Settings)
		return guest.Settings(json, settings)
	}
	found := new(Found)
	plugin.check = func(batch guest.Batch) (answer *Found, problem error) {
		// the host has read what was found before
		clear(found.details)
		*found = Found{findings: found.findings[:0], details: found.details[:0]}
		defer guest.Recover(&found.row, &problem)
		if problem := view.Open(batch); problem != nil {
			return nil, problem
		}
		for from := uint32(0); from < batch.Rows; from += guest.Block {
			count := min(guest.Block, batch.Rows-from)
			view.Fill(uintptr(from), uintptr(count))
			judge(rows, from, count, settings, found, check)
		}
		return found, nil
	}
}

// judge calls the rule for the rows of a block, several in a turn: to go round costs an indirect jump, and what the compiler
// knows of its pointers in one turn, it has to check again in the next.
//
//go:noinline
func judge[Row, Settings any](
	rows *[guest.Block]Row, from, count uint32, settings *Settings, found *Found, check func(Row, *Settings, *Found),
) {
	i := uint32(0)
	for ; i+8 <= count; i += 8 {
		eight := (*[8]Row)(unsafe.Pointer(&rows[i%guest.Block]))
		found.row = from + i
		check(eight[0], settings, found)
		found.row++
		check(eight[1], settings, found)
		found.row++
		check(eight[2], settings, found)
		found.row++
		check(eight[3], settings, found)
		found.row++
		check(eight[4], settings, found)
		found.row++
		check(eight[5], settings, found)
		found.row++
		check(eight[6], settings, found)
		found.row++
		check(eight[7], settings, found)
	}
	for ; i < count; i++ {
		found.row = from + i
		check(rows[i], settings, found)
	}
}

//go:wasmexport sluice:plugin/rule@0.1.0#configure
func configure(json, bytes uint32) uint32 {
	text := guest.Passed(json, bytes)
	defer guest.Release()
	if plugin == nil {
		return guest.Config("no rule: call sluice.Rule from init")
	}
	if plugin.problem != nil {
		return guest.Config(plugin.problem.Error())
	}
	if problem := plugin.settings(text); problem != nil {
		return guest.Config(problem.Error())
	}
	codes := guest.NewList(len(plugin.codes), guest.CodeSize)
	for i, code := range plugin.codes {
		reads, problem := guest.Indexes(plugin.fields, code.reads)
		if problem != nil {
			return guest.Config(fmt.Sprintf("the code `%s` reads %v", code.code, problem))
		}
		one := codes.At(i)
		one.PutText(0, code.code)
		one[8] = code.severity
		one.PutText(12, code.help)
		one.PutBytes(20, reads, len(reads)/2)
	}
	answer := guest.NewRecord(guest.RuleSize)
	answer.PutText(4, plugin.name)
	answer.PutText(12, plugin.version)
	answer.PutList(20, guest.Requests(plugin.fields))
	answer.PutList(28, codes)
	answer[36] = guest.Reused
	return answer.Return()
}

//go:wasmexport sluice:plugin/rule@0.1.0#check
func check(rows, columns, count uint32) uint32 {
	defer guest.Release()
	found, problem := plugin.check(guest.NewBatch(rows, columns, count))
	if problem != nil {
		return guest.Internal(problem.Error())
	}
	answer := guest.NewRecord(guest.AnswerSize)
	answer.PutBytes(4, found.findings, len(found.findings)/guest.FindingSize)
	guest.Keep(found)
	return answer.Return()
}
