// Package clients holds the tests that register real Matrix clients, and
// requests shaped like those of others, with the example homeserver.
//
// matrix-js-sdk is installed from package-lock.json with "npm ci"; the tests do
// that by themselves where there is npm.
package clients
