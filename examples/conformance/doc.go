// Package conformance measures the example homeserver by the kit in package
// uiatest, and the kit by broken homeservers.
package conformance
