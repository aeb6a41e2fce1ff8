// Package browser holds the tests of the fallback page in a real browser, Debian's
// Chromium. Its screenshots end up in the folder artifacts.
package browser
