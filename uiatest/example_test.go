package uiatest_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"

	"github.com/matrix-uia/uia/uiatest"
)

// Without package testing: the cases of one area against a homeserver in this
// process. That it accepts nobody is seen at once.
func ExampleRun() {
	homeserver := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"flows": [{"stages": ["m.login.registration_token"]}], "session": "always the same"}`)
	})
	reports, err := uiatest.Run(context.Background(), uiatest.Server{Handler: homeserver}, &uiatest.Options{
		Match: regexp.MustCompile(`^uia/(no-auth-is-401|sessions-differ|all-stages-make-the-account)$`),
	})
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range reports {
		fmt.Println(r.Level, r.Name, r.Outcome, r.Reason, r.Problems)
	}
	// Output:
	// must uia/no-auth-is-401 passed  []
	// must uia/all-stages-make-the-account not applicable no way to make registration tokens []
	// should uia/sessions-differ failed  [4 answers succeed, with 1 different session, expected as many]
}
