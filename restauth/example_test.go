package restauth_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/stages"
)

// A homeserver whose accounts are kept in a service beside it has one function for logins
// and for the password stage.
func Example_passwordsElsewhere() {
	const secret = "what-the-two-of-them-share"
	known := func(_ context.Context, id stages.Identifier, password string) (string, error) {
		if id.User == "@alice:example.org" && password == "wonderland" {
			return id.User, nil
		}
		return "", nil
	}
	handler, err := restauth.NewHandler(known, restauth.HandlerOptions{ServerName: "example.org", Secret: secret})
	if err != nil {
		panic(err)
	}
	service := httptest.NewServer(handler)
	defer service.Close()

	link := strings.Replace(service.URL, "http://", "http://homeserver:"+secret+"@", 1)
	client, err := restauth.NewClient(link, "example.org", nil)
	if err != nil {
		panic(err)
	}
	stage := &stages.PasswordStage{Verify: client.Verify} // into uia.Config.Stages
	for _, password := range []string{"wonderland", "looking-glass"} {
		user, err := stage.Verify(context.Background(), stages.Identifier{User: "alice"}, password)
		fmt.Printf("%q %v\n", user, err)
	}
	// Output:
	// "@alice:example.org" <nil>
	// "" <nil>
}
