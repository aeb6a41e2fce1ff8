package uiatest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPageCalls(t *testing.T) {
	const prescribed = `if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}`
	for body, want := range map[string]calling{
		prescribed: callsAtOnce,
		`(function () { ` + prescribed + ` })();`:                                                       callsAtOnce,
		`(function () { ` + prescribed + ` }());`:                                                       callsAtOnce,
		`(() => { ` + prescribed + ` })()`:                                                              callsAtOnce,
		`(async () => window.onAuthDone())()`:                                                           callsAtOnce,
		`function done() { window.onAuthDone() }`:                                                       neverCalls,
		`function done() { window.onAuthDone() } done();`:                                               callsAtOnce,
		`function done() { window.onAuthDone() } if (x) { done(); }`:                                    callsAtOnce,
		`function a() { b() } function b() { a(); window.onAuthDone() }`:                                mayCall,
		`function a() { a(); window.onAuthDone() }`:                                                     mayCall,
		`var done = function () { window.onAuthDone() };`:                                               neverCalls,
		`const done = () => { window.onAuthDone() }; setTimeout(done, 1);`:                              mayCall,
		`const done = () => window.onAuthDone();`:                                                       neverCalls,
		`window.onload = function () { window.onAuthDone() }`:                                           mayCall,
		`document.addEventListener("DOMContentLoaded", function () { window.onAuthDone() });`:           mayCall,
		`fetch(x).then(r => r.json()).then((j) => { if (j.ok) { window.onAuthDone() } })`:               mayCall,
		`fetch(x).then(r => window.onAuthDone())`:                                                       mayCall,
		`f(r => 1, window.onAuthDone())`:                                                                callsAtOnce,
		`// window.onAuthDone()`:                                                                        neverCalls,
		`/* window.onAuthDone() */`:                                                                     neverCalls,
		`var help = "window.onAuthDone()"; var t = 'onAuthDone()' + ` + "`onAuthDone()`":                neverCalls,
		`var r = /"/; window.onAuthDone()`:                                                              callsAtOnce,
		`var r = a / b; window.onAuthDone()`:                                                            callsAtOnce,
		`if (window.onAuthDone) {}`:                                                                     neverCalls,
		`function onAuthDone() {}`:                                                                      neverCalls,
		`var o = { onAuthDone() { }, done() { window.onAuthDone() } }`:                                  neverCalls,
		`var o = { done: function () { window.onAuthDone() } }; o.done();`:                              callsAtOnce,
		`while (true) { for (;;) { switch (x) { case 1: try { window.onAuthDone() } catch (e) {} } } }`: callsAtOnce,
		`)}]({[ window.onAuthDone()`:                                                                    callsAtOnce,
		``:                                                                                              neverCalls,
	} {
		require.Equal(t, want, pageCalls("<p>onAuthDone()</p><script>"+body+"</script>", "onAuthDone"), body)
	}
	for page, want := range map[string]calling{
		`<SCRIPT TYPE="text/javascript" nonce=x>window.onAuthDone()</SCRIPT >`:                             callsAtOnce,
		`<script type="application/json">onAuthDone()</script>`:                                            neverCalls,
		`<script type=module>window.onAuthDone()</script>`:                                                 callsAtOnce,
		`<script src="x.js"></script>`:                                                                     cannotTell,
		`<script src="x.js"></script><script>window.onAuthDone()</script>`:                                 callsAtOnce,
		`<body onload="window.onAuthDone()">`:                                                              callsAtOnce,
		`<button onclick='done(&quot;x&quot;)'></button><script>function done() { onAuthDone() }</script>`: mayCall,
		`<script>onAuthDone()`:                                                                             neverCalls,
	} {
		require.Equal(t, want, pageCalls(page, "onAuthDone"), page)
	}
}

// Whatever a homeserver sends is read in a time that is about proportional to it.
func FuzzPageCalls(f *testing.F) {
	f.Add(`<script>a => { b(() => c(), "x") } /* */ // </script><body onload="f()">`)
	f.Fuzz(func(t *testing.T, page string) { pageCalls(page, "onAuthDone") })
}
