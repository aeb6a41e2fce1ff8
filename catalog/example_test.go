package catalog_test

import (
	"fmt"
	"testing/fstest"

	"github.com/matrix-uia/uia/catalog"
)

// A host says something in its own words, and adds a language. The files are usually
// embedded.
func ExampleNew() {
	texts, err := catalog.New(fstest.MapFS{
		"en.json":  {Data: []byte(`{"Create account": "Join the club"}`)},
		"nds.json": {Data: []byte(`{"_name": "Plattdüütsch", "Create account": "Maak mit"}`)},
	})
	if err != nil {
		panic(err)
	}
	for _, accept := range []string{"en-GB", "nds, de;q=0.5", "sv"} {
		language, _ := texts.Choose("", accept)
		fmt.Println(language.Tag(), language.Text("Create account"))
	}
	// Output:
	// en Join the club
	// nds Maak mit
	// sv Skapa konto
}
