// Package sluice makes a Sluice enricher of a plain function from a row to what it adds.
//
//	type Visit struct {
//		Browser *string `row:"context.technical.browser"`
//	}
//	type Added struct {
//		Engine *string `column:"engine"`
//	}
//
//	func browserEngine(v Visit, s *sluice.None) Added { … }
//
//	func init() { sluice.Enricher("browser-engine", "1.0.0", browserEngine) }
//	func main() {}
//
// What package sluice says of rows and settings holds here too. A field that is a nil pointer adds a null.
package sluice

import (
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
	// Decimal is a decimal number; an added one says its digits: `column:"price,10,2"`.
	Decimal = guest.Decimal
	// JSON is the text of one JSON value: how a struct, list or map is read whole.
	JSON = guest.JSON
)

// Log writes a line to the host's log.
func Log(message string) { guest.Log(guest.Info, message) }

type enricher struct {
	name, version string
	many          bool
	fields, adds  []guest.Field
	problem       error
	settings      func(json string) error
	enrich        func(batch guest.Batch) (*guest.Builder, error)
}

var plugin *enricher

// Enricher is called once, from init. The function answers what one row gains.
func Enricher[Row, Settings, Added any](name, version string, add func(Row, *Settings) Added) {
	register(name, version, false, reflect.TypeFor[Added](), func(row *Row, settings *Settings, to *guest.Builder) {
		added := add(*row, settings)
		to.Push(unsafe.Pointer(&added))
	})
}

// EnricherMany is Enricher for a function that makes several rows of one, and never none.
func EnricherMany[Row, Settings, Added any](name, version string, add func(Row, *Settings) []Added) {
	register(name, version, true, reflect.TypeFor[Added](), func(row *Row, settings *Settings, to *guest.Builder) {
		added := add(*row, settings)
		for i := range added {
			to.Push(unsafe.Pointer(&added[i]))
		}
	})
}

func register[Row, Settings any](
	name, version string, many bool, added reflect.Type, add func(*Row, *Settings, *guest.Builder),
) {
	fields, problem := guest.Fields(reflect.TypeFor[Row]())
	adds, other := guest.Adds(added)
	if problem == nil {
		problem = other
	}
	view, settings := guest.NewView(fields, reflect.TypeFor[Row]().Size()), new(Settings)
	rows := (*[guest.Block]Row)(view.Rows())
	plugin = &enricher{name: name, version: version, many: many, fields: fields, adds: adds, problem: problem}
	plugin.settings = func(json string) error {
		settings = new(Settings)
		return guest.Settings(json, settings)
	}
	plugin.enrich = func(batch guest.Batch) (made *guest.Builder, problem error) {
		made = guest.NewBuilder(adds, many)
		defer guest.Recover(&made.Row, &problem)
		if problem := view.Open(batch); problem != nil {
			return nil, problem
		}
		for from := uint32(0); from < batch.Rows; from += guest.Block {
			count := min(guest.Block, batch.Rows-from)
			view.Fill(uintptr(from), uintptr(count))
			for i := range count {
				made.Row = from + i
				add(&rows[i], settings, made)
			}
		}
		return made, nil
	}
}

//go:wasmexport sluice:plugin/enricher@0.1.0#configure
func configure(json, bytes uint32) uint32 {
	text := guest.Passed(json, bytes)
	defer guest.Release()
	if plugin == nil {
		return guest.Config("no enricher: call sluice.Enricher from init")
	}
	if plugin.problem != nil {
		return guest.Config(plugin.problem.Error())
	}
	if problem := plugin.settings(text); problem != nil {
		return guest.Config(problem.Error())
	}
	answer := guest.NewRecord(guest.EnricherSize)
	answer.PutText(4, plugin.name)
	answer.PutText(12, plugin.version)
	answer.PutList(20, guest.Requests(plugin.fields))
	answer.PutList(28, guest.Produces(plugin.adds))
	if plugin.many {
		answer[36] = 1
	}
	answer[37] = guest.Reused
	return answer.Return()
}

//go:wasmexport sluice:plugin/enricher@0.1.0#enrich
func enrich(rows, columns, count uint32) uint32 {
	defer guest.Release()
	made, problem := plugin.enrich(guest.NewBatch(rows, columns, count))
	if problem != nil {
		return guest.Internal(problem.Error())
	}
	answer := guest.NewRecord(guest.AnswerSize + 8)
	if plugin.many {
		answer[4] = 1
		answer.PutBytes(8, made.Origin, len(made.Origin)/4)
	}
	answer.PutList(16, made.Columns())
	guest.Keep(made)
	return answer.Return()
}
