module github.com/matrix-uia/uia/examples

go 1.26

require (
	github.com/matrix-org/gomatrixserverlib v0.0.0-20260506075950-c9c468727353
	github.com/matrix-uia/uia v0.0.0
	golang.org/x/crypto v0.58.0
)

replace github.com/matrix-uia/uia => ..
