// Package tool is a module that has Dendrite as a tool and nothing else, so that no
// other module requires what Dendrite requires:
//
//	go tool -C internal/dendritetest/tool dendrite -help
//
// The module stays out of go.work, which would have all modules agree on versions.
package tool
