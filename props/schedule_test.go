package props_test

import (
	"errors"
	"fmt"
	"runtime/debug"

	"pgregory.net/rapid"
)

// schedule runs goroutines one at a time. They hand control back in step, and choices say who goes on.
type schedule struct {
	choices []uint8
	steps   int
	tasks   []*task
	current *task // nil while the test itself runs
	back    chan struct{}
}

type task struct {
	name     string
	resume   chan struct{}
	waiting  bool // cannot go on until another has
	draining bool // see world.step
	done     bool
	err      error
}

// stay is the number of choices that let a task go on; every further one is another task's turn.
const stay = 5

// drawSchedule draws the choices. All zeros lets each task run to its end, so that rapid shrinks to few switches.
func drawSchedule(t *rapid.T) *schedule {
	return &schedule{choices: rapid.SliceOfN(rapid.Uint8Range(0, stay+6), 1, 200).Draw(t, "schedule"), back: make(chan struct{})}
}

func (s *schedule) add(name string, f func()) {
	t := &task{name: name, resume: make(chan struct{})}
	s.tasks = append(s.tasks, t)
	go func() {
		<-t.resume
		defer func() {
			if r := recover(); r != nil {
				t.err = fmt.Errorf("panic in %s: %v\n%s", t.name, r, debug.Stack())
			}
			t.done = true
			s.back <- struct{}{}
		}()
		f()
	}()
}

// step is where a task may be interrupted. The test itself, which sets things up, never is.
func (s *schedule) step(waiting bool) {
	t := s.current
	if t == nil {
		if waiting {
			panic("the test waits for itself")
		}
		return
	}
	t.waiting = waiting
	s.back <- struct{}{}
	<-t.resume
}

// maxSteps ends schedules in which tasks wait for each other in turns.
const maxSteps = 200_000

// run runs all tasks to their end.
func (s *schedule) run() error {
	at := 0
	for {
		if s.steps++; s.steps > maxSteps {
			return errors.New("the schedule does not end")
		}
		c := int(s.choices[s.steps%len(s.choices)])
		if c >= stay {
			at += c - stay + 1
		}
		t := s.next(at)
		if t == nil {
			break
		}
		for i := range s.tasks {
			if s.tasks[i] == t {
				at = i
			}
		}
		s.current, t.waiting = t, false
		t.resume <- struct{}{}
		<-s.back
		s.current = nil
		if !t.waiting {
			for _, o := range s.tasks {
				o.waiting = false
			}
		}
	}
	var errs []error
	for _, t := range s.tasks {
		if t.err == nil && !t.done {
			t.err = fmt.Errorf("%s waits for ever", t.name)
		}
		errs = append(errs, t.err)
	}
	return errors.Join(errs...)
}

func (s *schedule) next(at int) *task {
	for i := range s.tasks {
		if t := s.tasks[(at+i)%len(s.tasks)]; !t.done && !t.waiting {
			return t
		}
	}
	return nil
}
