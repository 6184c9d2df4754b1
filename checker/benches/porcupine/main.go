// Runs porcupine over recorded histories and prints a JSON object for each: {"verdict","micros","processor_micros",
// "peak_kib"}. `micros` is the time of the check alone in the fastest of many batches, reading left out; `processor_micros` is
// what all threads took of the processors, divided by the number of runs; `peak_kib` is the most memory that was resident
// during the first of them, with the history.
//
// Each file is a history in our JSON Lines format of one of the models register, cas-register and kv. Operations of unknown
// outcome return after everything else, and may have any answer, as porcupine's own tests have it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

// So many checks are timed together that they take so long: the time of one depends on the order of the partitions, which is
// random. All of them take a second.
const batchFor = 10 * time.Millisecond

type line struct {
	Format   string  `json:"format"`
	Initial  *string `json:"initial"`
	Process  int     `json:"process"`
	Type     string  `json:"type"`
	F        string  `json:"f"`
	Key      string  `json:"key"`
	Value    *string `json:"value"`
	Expected *string `json:"expected"`
	Swapped  bool    `json:"swapped"`
}

// A value; nothing is not the empty string.
type value struct {
	there bool
	bytes string
}

type request struct {
	op       string
	key      string
	value    value
	expected value
}

type answer struct {
	known   bool
	value   value
	swapped bool
}

func valueOf(text *string) value {
	if text == nil {
		return value{}
	}
	return value{true, *text}
}

func step(state, input, output interface{}) (bool, interface{}) {
	held, asked, told := state.(value), input.(request), output.(answer)
	switch asked.op {
	case "read", "get":
		return !told.known || told.value == held, held
	case "write", "put":
		return true, asked.value
	case "append":
		return true, value{true, held.bytes + asked.value.bytes}
	default:
		matches := held == asked.expected
		if told.known && told.swapped != matches {
			return false, held
		}
		if matches {
			return true, asked.value
		}
		return true, held
	}
}

// The same over all keys at once.
func stepWhole(initial value, state, input, output interface{}) (bool, interface{}) {
	store, key := state.(map[string]value), input.(request).key
	held, there := store[key]
	if !there {
		held = initial
	}
	ok, next := step(held, input, output)
	if !ok || next.(value) == held {
		return ok, state
	}
	changed := make(map[string]value, len(store)+1)
	for other, held := range store {
		changed[other] = held
	}
	changed[key] = next.(value)
	return true, changed
}

func byKey(history []porcupine.Event) [][]porcupine.Event {
	keys := map[int]string{}
	parts := map[string][]porcupine.Event{}
	for _, event := range history {
		if event.Kind == porcupine.CallEvent {
			keys[event.Id] = event.Value.(request).key
		}
		key := keys[event.Id]
		parts[key] = append(parts[key], event)
	}
	var all [][]porcupine.Event
	for _, part := range parts {
		all = append(all, part)
	}
	return all
}

// The events of a history, and the value of every key at first.
func read(name string) ([]porcupine.Event, value, error) {
	var initial value
	file, err := os.Open(name)
	if err != nil {
		return nil, initial, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<26)
	var events []porcupine.Event
	open := map[int]int{}
	asked := map[int]request{}
	id := 0
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, initial, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case l.Format != "":
			initial = valueOf(l.Initial)
		case l.Type == "note":
		case l.Type == "invoke":
			r := request{l.F, l.Key, valueOf(l.Value), valueOf(l.Expected)}
			events = append(events, porcupine.Event{ClientId: l.Process, Kind: porcupine.CallEvent, Value: r, Id: id})
			open[l.Process], asked[id] = id, r
			id++
		case l.Type == "ok":
			told := answer{true, valueOf(l.Value), l.Swapped}
			number := open[l.Process]
			events = append(events, porcupine.Event{ClientId: l.Process, Kind: porcupine.ReturnEvent, Value: told, Id: number})
			delete(asked, number)
		case l.Type != "info":
			return nil, initial, fmt.Errorf("%s: unexpected %q", name, l.Type)
		}
	}
	// What has no answer. A read like that says nothing.
	var kept []porcupine.Event
	for _, event := range events {
		r, unknown := asked[event.Id]
		if !(unknown && (r.op == "read" || r.op == "get")) {
			kept = append(kept, event)
		}
	}
	for number, r := range asked {
		if r.op != "read" && r.op != "get" {
			kept = append(kept, porcupine.Event{Kind: porcupine.ReturnEvent, Value: answer{}, Id: number})
		}
	}
	return kept, initial, lines.Err()
}

// The most memory that was resident since forgetPeak.
func peakKib() int {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, _ := strconv.Atoi(fields[1])
			return kib
		}
	}
	return 0
}

// What all threads of this process have had of the processors.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Linux only; elsewhere the peak is that of the whole process.
func forgetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200)
}

func modelOf(initial value, whole bool) porcupine.Model {
	model := porcupine.Model{
		Init:           func() interface{} { return initial },
		Step:           step,
		Equal:          func(a, b interface{}) bool { return a.(value) == b.(value) },
		PartitionEvent: byKey,
	}
	seed := maphash.MakeSeed()
	hash := func(state interface{}) uint64 { return maphash.String(seed, state.(value).bytes) }
	if whole {
		model.PartitionEvent = nil
		model.Init = func() interface{} { return map[string]value{} }
		model.Step = func(state, input, output interface{}) (bool, interface{}) {
			return stepWhole(initial, state, input, output)
		}
		model.Equal = func(a, b interface{}) bool { return maps.Equal(a.(map[string]value), b.(map[string]value)) }
		hash = func(state interface{}) uint64 {
			var sum uint64
			for key, held := range state.(map[string]value) {
				sum += maphash.String(seed, key) * (maphash.String(seed, held.bytes) | 1)
			}
			return sum
		}
	}
	// Only its newest versions take a hash of the state.
	if field := reflect.ValueOf(&model).Elem().FieldByName("Hash"); field.IsValid() {
		field.Set(reflect.ValueOf(hash))
	}
	return model
}

func main() {
	seconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "usage: porcupine-bench SECONDS [--whole] FILE...")
		os.Exit(2)
	}
	files, whole := os.Args[2:], false
	if len(files) > 0 && files[0] == "--whole" {
		files, whole = files[1:], true
	}
	for _, name := range files {
		events, initial, err := read(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		model := modelOf(initial, whole)
		debug.FreeOSMemory()
		forgetPeak()
		best, reps, batch, verdict, peak := time.Duration(1<<62), 0, 1, porcupine.Unknown, 0
		used := processorTime()
		for start := time.Now(); reps == 0 || time.Since(start) < time.Second; {
			at := time.Now()
			for i := 0; i < batch; i++ {
				verdict = porcupine.CheckEventsTimeout(model, events, time.Duration(seconds)*time.Second)
			}
			each := time.Since(at) / time.Duration(batch)
			best = min(best, each)
			reps += batch
			if reps == 1 {
				peak = peakKib()
				// The first is a batch by itself, and slower than any.
				batch = max(1, int(batchFor/max(each, 1)))
			}
		}
		used = processorTime() - used
		micros := float64(best.Nanoseconds()) / 1000
		processorMicros := float64(used.Nanoseconds()) / 1000 / float64(reps)
		const form = "{\"verdict\":%q,\"micros\":%.3f,\"processor_micros\":%.3f,\"peak_kib\":%d}\n"
		fmt.Printf(form, verdict, micros, processorMicros, peak)
	}
}
