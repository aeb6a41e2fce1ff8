package gateway_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

type dict = map[string]any

// dialect is how a homeserver behaves where homeservers differ. TestDialects has what
// was seen of the real ones.
type dialect struct {
	name string
	// Of the registration by shared secret.
	shared         bool          // there is one
	nonceTTL       time.Duration // zero: a nonce is good for as long as the process lives
	nonceReusable  bool          // it is not used up by an account
	sharedDevice   string        // whatever device is asked for; "" as asked
	ignoresInhibit bool          // an account made by shared secret is always logged in
	sharedAnyName  bool          // exclusive names are made too
	// Of the registration by clients.
	tellsWhenClosed bool // /register/available answers while registration is off
	keepsSessions   bool // they survive a restart
	repeats         bool // the last request of a session that is done is answered with its account; Dendrite's only with a login
	freshParams     bool // an unknown session is a new registration
	exclusiveInUse  bool // /register/available calls an exclusive name M_USER_IN_USE
	unstable        bool // registers on /_matrix/client/unstable too
}

var dialects = []dialect{
	{name: "synapse", shared: true, nonceTTL: time.Minute, keepsSessions: true, repeats: true, unstable: true},
	{name: "dendrite", shared: true, nonceTTL: 5 * time.Minute, nonceReusable: true, sharedDevice: "shared_secret_registration",
		ignoresInhibit: true, sharedAnyName: true, tellsWhenClosed: true, freshParams: true, exclusiveInUse: true},
	{name: "conduit", tellsWhenClosed: true},
	{name: "hs", shared: true, nonceTTL: time.Minute, sharedDevice: "made up", ignoresInhibit: true, tellsWhenClosed: true, repeats: true},
}

func dialectOf(name string) dialect {
	return dialects[slices.IndexFunc(dialects, func(d dialect) bool { return d.name == name })]
}

const (
	fakeSecret = "the shared secret"
	fakeToken  = "the-private-token"
	fakeServer = "fake.example"
	exclusive  = "bridge_"
)

// fake is a homeserver of some dialect, in memory. It is an http.Handler.
type fake struct {
	dialect
	flows [][]string // nil: registration is off

	mu       sync.Mutex
	users    map[string]*fakeUser
	logins   map[string]string // access tokens, with their users
	nonces   map[string]time.Time
	sessions map[string]*fakeSession
	admins   []string
	requests []string // method and path
}

type fakeUser struct {
	password string
	devices  map[string]string // IDs, with their names
}

type fakeSession struct {
	params    dict
	completed []string
	user      string // that it has made
}

// newFake returns a homeserver whose registration is off, if private is false, and
// otherwise asks for a token that only its gateway has.
func newFake(d dialect, private bool) *fake {
	f := &fake{
		dialect: d, users: map[string]*fakeUser{}, logins: map[string]string{},
		nonces: map[string]time.Time{}, sessions: map[string]*fakeSession{},
	}
	if private {
		f.flows = [][]string{{"m.login.registration_token", "m.login.dummy"}}
	}
	return f
}

// restart forgets what is in the memory of the homeserver alone.
func (f *fake) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.nonces)
	if !f.keepsSessions {
		clear(f.sessions)
	}
}

func fail(status int, code, text string) (int, any) {
	return status, dict{"errcode": code, "error": text}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	params := dict{}
	_ = json.Unmarshal(body, &params)
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	status, answer := f.serve(r, params)
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func (f *fake) serve(r *http.Request, params dict) (int, any) {
	path := r.URL.Path
	for _, v := range []string{"r0", "unstable"} {
		if rest, ok := strings.CutPrefix(path, "/_matrix/client/"+v+"/"); ok && (v == "r0" || f.unstable && rest == "register") {
			path = "/_matrix/client/v3/" + rest
		}
	}
	profile, isProfile := strings.CutPrefix(path, "/_matrix/client/v3/profile/@")
	switch method := r.Method; {
	case f.shared && path == "/_synapse/admin/v1/register" && method == "GET":
		return f.nonce()
	case f.shared && path == "/_synapse/admin/v1/register":
		return f.registerShared(params)
	case path == "/_matrix/client/v3/register" && method == "POST":
		return f.register(params)
	case path == "/_matrix/client/v3/register/available":
		return f.available(r.URL.Query().Get("username"))
	case path == "/_matrix/client/v3/login" && method == "GET":
		return 200, dict{"flows": []dict{{"type": "m.login.password"}}}
	case path == "/_matrix/client/v3/login":
		return f.login(params)
	case path == "/_matrix/client/v3/logout":
		return f.logout(r)
	case path == "/_matrix/client/v3/account/whoami":
		return f.whoami(r)
	case isProfile:
		name, _, _ := strings.Cut(profile, ":")
		if f.users[name] == nil {
			return fail(404, "M_NOT_FOUND", "no such user")
		}
		return 200, dict{}
	case f.name == "synapse" && strings.HasPrefix(path, "/_synapse/admin/v1/users/"):
		return f.adminProbe(r)
	case f.name == "dendrite" && path == "/_dendrite/admin/registrationTokens":
		return f.adminProbe(r)
	}
	return fail(404, "M_UNRECOGNIZED", "Unrecognized request")
}

func (f *fake) nonce() (int, any) {
	nonce := rand.Text()
	f.nonces[nonce] = time.Now()
	return 200, dict{"nonce": nonce}
}

func str(v any) string { s, _ := v.(string); return s }

func (f *fake) registerShared(p dict) (int, any) {
	made, known := f.nonces[str(p["nonce"])]
	if !known || f.nonceTTL > 0 && time.Since(made) > f.nonceTTL {
		return fail(400, "M_UNKNOWN", "unrecognised nonce")
	}
	if !f.nonceReusable {
		delete(f.nonces, str(p["nonce"]))
	}
	name, password := str(p["username"]), str(p["password"])
	if strings.Contains(password, "\x00") {
		return fail(500, "M_UNKNOWN", "Internal server error")
	}
	mac := hmac.New(sha1.New, []byte(fakeSecret))
	io.WriteString(mac, strings.Join([]string{str(p["nonce"]), name, password, "notadmin"}, "\x00"))
	if hex.EncodeToString(mac.Sum(nil)) != p["mac"] {
		return fail(403, "M_FORBIDDEN", "HMAC incorrect")
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789._=-/+") != "" {
		return fail(400, "M_INVALID_USERNAME", "bad name")
	}
	if !f.sharedAnyName && strings.HasPrefix(name, exclusive) {
		return fail(400, "M_EXCLUSIVE", "exclusive")
	}
	device := str(p["device_id"])
	switch f.sharedDevice {
	case "":
	case "made up":
		device = rand.Text()
	default:
		device = f.sharedDevice
	}
	return f.make(name, password, device, p["inhibit_login"] == true && !f.ignoresInhibit)
}

// make makes an account.
func (f *fake) make(name, password, device string, inhibited bool) (int, any) {
	if f.users[name] != nil {
		return fail(400, "M_USER_IN_USE", "taken")
	}
	f.users[name] = &fakeUser{password, map[string]string{}}
	if inhibited {
		return 200, dict{"user_id": "@" + name + ":" + fakeServer}
	}
	return 200, f.logIn(name, device)
}

func (f *fake) logIn(name, device string) dict {
	if device == "" {
		device = rand.Text()
	}
	access := rand.Text()
	f.users[name].devices[device] = ""
	f.logins[access] = name + "/" + device
	return dict{"user_id": "@" + name + ":" + fakeServer, "device_id": device, "access_token": access}
}

func (f *fake) available(name string) (int, any) {
	switch {
	case f.flows == nil && !f.tellsWhenClosed:
		return fail(403, "M_FORBIDDEN", "Registration has been disabled")
	case f.users[name] != nil, strings.HasPrefix(name, exclusive) && f.exclusiveInUse:
		return fail(400, "M_USER_IN_USE", "taken")
	case strings.HasPrefix(name, exclusive):
		return fail(400, "M_EXCLUSIVE", "exclusive")
	}
	return 200, dict{"available": true}
}

// register is POST /register by a client.
func (f *fake) register(p dict) (int, any) {
	if f.flows == nil {
		return fail(403, "M_FORBIDDEN", "Registration has been disabled")
	}
	auth, _ := p["auth"].(dict)
	delete(p, "auth")
	id := str(auth["session"])
	s := f.sessions[id]
	switch {
	case id != "" && s == nil && !f.freshParams:
		return fail(400, "M_UNKNOWN", "No such session")
	case id != "" && s == nil && p["password"] == nil:
		return fail(400, "M_MISSING_PARAM", "no password")
	case s == nil:
		id = rand.Text()
		s = &fakeSession{params: p}
		f.sessions[id] = s
	case len(p) > 0:
		s.params = p // what comes later counts for all
	}
	challenge := func(code string) (int, any) {
		flows := []dict{}
		for _, stages := range f.flows {
			flows = append(flows, dict{"stages": stages})
		}
		out := dict{"session": id, "flows": flows, "completed": s.completed, "params": dict{}}
		if code != "" {
			out["errcode"], out["error"] = code, "wrong"
		}
		return 401, out
	}
	switch typ := str(auth["type"]); {
	case typ == "m.login.registration_token" && auth["token"] != fakeToken:
		return challenge("M_UNAUTHORIZED")
	case typ != "" && !slices.Contains(s.completed, typ):
		s.completed = append(s.completed, typ)
	}
	if !slices.ContainsFunc(f.flows, func(stages []string) bool {
		return !slices.ContainsFunc(stages, func(stage string) bool { return !slices.Contains(s.completed, stage) })
	}) {
		return challenge("")
	}
	name, password, device := str(s.params["username"]), str(s.params["password"]), str(s.params["device_id"])
	if s.user != "" && (f.repeats || f.name == "dendrite" && s.params["inhibit_login"] != true) {
		return 200, f.logIn(s.user, device)
	}
	if password == "" {
		return fail(400, "M_MISSING_PARAM", "no password")
	}
	status, answer := f.make(name, password, device, s.params["inhibit_login"] == true)
	if status == 200 {
		s.user = name
		if f.name == "conduit" {
			delete(f.sessions, id)
		}
	}
	return status, answer
}

func (f *fake) login(p dict) (int, any) {
	identifier, _ := p["identifier"].(dict)
	name := str(identifier["user"])
	if u := f.users[name]; u == nil || u.password != p["password"] {
		return fail(403, "M_FORBIDDEN", "Invalid username or password")
	}
	answer := f.logIn(name, str(p["device_id"]))
	f.users[name].devices[answer["device_id"].(string)] = str(p["initial_device_display_name"])
	return 200, answer
}

func (f *fake) logout(r *http.Request) (int, any) {
	access := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	name, device, _ := strings.Cut(f.logins[access], "/")
	if u := f.users[name]; u != nil {
		delete(u.devices, device)
		for other, login := range f.logins {
			if login == name+"/"+device {
				delete(f.logins, other)
			}
		}
	}
	return 200, dict{}
}

func (f *fake) whoami(r *http.Request) (int, any) {
	login, ok := f.logins[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !ok {
		return fail(401, "M_UNKNOWN_TOKEN", "Unknown access token")
	}
	name, _, _ := strings.Cut(login, "/")
	return 200, dict{"user_id": "@" + name + ":" + fakeServer}
}

func (f *fake) adminProbe(r *http.Request) (int, any) {
	status, who := f.whoami(r)
	if status != 200 {
		return status, who
	}
	user := who.(dict)["user_id"].(string)
	if !slices.Contains(f.admins, user) {
		return fail(403, "M_FORBIDDEN", "You are not a server admin")
	}
	return 200, dict{"admin": f.name != "synapse" || strings.Contains(r.URL.Path, user)}
}

// names returns how the accounts are called, in order.
func (f *fake) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []string{}
	for name := range f.users {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// log returns the requests so far.
func (f *fake) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// canLogIn reports whether this is the password of the account.
func (f *fake) canLogIn(name, password string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.users[name] != nil && f.users[name].password == password
}
