// Package flows holds the test that walks through a flow of four stages with two
// alternatives in every order, next to a model of what has to come out.
package flows
