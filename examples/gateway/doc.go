// Package gateway tests package gateway as programs have it: with a database in a
// file, in processes that are killed, in front of the example homeserver.
package gateway
