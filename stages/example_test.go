package stages_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/stages"
)

// printer stands for the homeserver's own way to send mail.
type printer struct{}

func (printer) SendConfirmation(_ context.Context, c stages.Confirmation) error {
	fmt.Println("mail to", c.Address)
	return nil
}

// Mails go out to those who have passed the token stage, five to a client and five to
// an address, and then one more every ten minutes.
func ExampleEmailStage() {
	secrets := uia.FixedSecrets([]byte("32 random bytes, kept with the homeserver's other secrets"))
	store := memstore.New(nil)
	limiter, err := limit.New(&limit.Options{Burst: 5, Refill: 10 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	email := &stages.EmailStage{
		Mailer: printer{}, Store: &stages.EmailMemory{}, Secrets: secrets, After: uia.TokenType, Limiter: limiter,
		ConfirmURL: "https://matrix.example.org/_matrix/client/email/confirm",
	}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: store,
		Stages: []uia.Stage{&uia.TokenStage{Store: store}, email},
		Operations: []uia.Operation{{
			Name: "register", Flows: []uia.Flow{{uia.TokenType, stages.EmailType}}, Mutable: true, Resolve: uia.NotDone,
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	pages, err := fallback.New(engine, nil)
	if err != nil {
		log.Fatal(err)
	}
	confirm, err := email.Confirm(pages)
	if err != nil {
		log.Fatal(err)
	}
	requestToken, err := email.RequestToken(engine)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/_matrix/client/email/confirm", confirm)
	http.Handle("/_matrix/client/v3/register/email/requestToken", requestToken)
	http.Handle(fallback.Path, pages)
}

// Terms that have to be accepted, in two languages.
func ExampleNewTermsStage() {
	terms, err := stages.NewTermsStage(stages.Policy{
		ID: "privacy", Version: "2", Texts: map[string]stages.PolicyText{
			"en": {Name: "Privacy policy", URL: "https://example.org/privacy-2.en.html"},
			"de": {Name: "Datenschutz", URL: "https://example.org/privacy-2.de.html"},
		},
	})
	fmt.Println(terms.Type(), err)
	// Output: m.login.terms <nil>
}
