// Package simtest runs the real engine under every schedule up to a bound.
//
// A [Scenario] is a homeserver of a few processes, its database, and a few actors:
// clients, an administrator, Recover. It runs in a bubble of testing/synctest whose
// root is the scheduler. Each call of the database is a point at which an actor
// stops until the scheduler lets it go on, and there the scheduler may do worse: the
// call fails, or takes effect and its answer is lost, or the process dies, everything
// stalls, a clock steps forward or back. [Exhaust] goes through all schedules that
// have no more preemptions, faults and clock events than a [Budget] allows, and
// leaves out those that come to a state it has seen; [Random] goes beyond by seed.
// What it finds is a string that [Replay] repeats, with a trace, and [Minimise] makes
// it short:
//
//	go test ./internal/simtest -run TestReplay -scenario pg-tx/two -schedule "0 0 1 +1 2 2 0"
//
// The database is a real memstore under a journal, of which a transaction has a
// copy. Three kinds of it behave as memstore, sqlstore on SQLite and sqlstore on
// PostgreSQL do; the last is a model of the row locks, the groups and the joint
// statements, which internal/dbtest compares with the real one.
//
// That it finds something is known from mistakes that are planted into the sources
// (plants_test.go), each of which is found by a scenario within a bound (mistakes_test.go).
// Where a new one is found, if it is:
//
//	go test ./internal/simtest -run TestMistakesAreFound -v -timeout 2h -hunt "commit without fence"
//
// What a schedule of n steps costs is about 15 microseconds a step. A schedule is a
// list of choices, separated by spaces:
//
//	1     actor 1 goes on
//	1!    its call fails          1?   its call takes effect, and the answer is lost
//	1x    its process dies first  1X   its process dies after the call took effect
//	1~    the database gives its transaction up (40001), and it is run again
//	w     time passes until an actor that waits goes on
//	T     everything stalls for longer than a lease lasts
//	+0 -0 the clock of process 0 steps a minute forward, back
//	g0    the database notices that process 0 is dead, and ends its transaction
package simtest
