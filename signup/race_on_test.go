//go:build race

package signup_test

const raceDetector = true
