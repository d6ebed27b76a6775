package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"phantomtoken/internal/oauth"
)

// Bounds of what strangers can make the server remember. The oldest entry goes first.
const (
	maxSessions = 10_000
	maxRequests = 5_000
	maxCodes    = 10_000
	maxTokens   = 200_000
)

const (
	sessionLifetime = time.Hour
	requestLifetime = 10 * time.Minute // from the authorization request to the consent
	codeLifetime    = time.Minute
)

// digest stands for a secret in memory: nobody who reads the store can use what it holds.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// newSecret is 256 random bits in base64url: a token, a code, a cookie, a client secret.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// session is one browser. It exists before anybody signed in, to hold the CSRF token.
type session struct {
	id       string // sid: public, unlike the cookie, and the same before and after signing in
	csrf     string
	user     string // empty: nobody signed in
	authTime time.Time
}

// authorizationRequest is a valid authorization request that waits for the user.
type authorizationRequest struct {
	client           *client
	redirectURI      string
	redirectURIGiven bool // then the token request must repeat it (RFC 6749 §4.1.3)
	state            string
	scopes           oauth.Scopes
	resources        []string
	challenge        string // S256
	loginAgain       bool   // prompt=login
	session          string // id of the session it came from
}

// code is an authorization code. It stays after its use, so that a second use is seen.
type code struct {
	request  authorizationRequest
	user     string
	authTime time.Time
	session  string
	expiry   time.Time
	used     bool
	replayed bool
	token    digest // of the token issued for it; zero before
}

// accessToken is what an opaque token stands for. Immutable.
type accessToken struct {
	id       string // jti
	clientID string
	subject  string
	username string
	scopes   oauth.Scopes
	audience []string
	issuedAt time.Time
	expiry   time.Time
	authTime time.Time      // zero without a user
	session  string         // empty without a user
	claims   map[string]any // beside the registered ones
	override map[string]any // instead of any; nil takes a member away
}

// store is the whole memory of the server. One mutex guards it all: no operation takes
// longer than a few map look-ups.
type store struct {
	now        func() time.Time
	maxDynamic int

	mu       sync.Mutex
	clients  map[string]*client
	dynamic  int
	sessions *expiring[session] // by digest of the cookie
	requests *expiring[authorizationRequest]
	codes    *expiring[*code]
	tokens   *expiring[*accessToken]
}

func newStore(now func() time.Time, maxDynamic int) *store {
	return &store{
		now:        now,
		maxDynamic: maxDynamic,
		clients:    map[string]*client{},
		sessions:   newExpiring[session](maxSessions),
		requests:   newExpiring[authorizationRequest](maxRequests),
		codes:      newExpiring[*code](maxCodes),
		tokens:     newExpiring[*accessToken](maxTokens),
	}
}

func (s *store) client(id string) (*client, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cl, ok := s.clients[id]
	return cl, ok
}

func (s *store) addStatic(cl *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[cl.id] = cl
}

// addDynamic reports whether there was room.
func (s *store) addDynamic(cl *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dynamic >= s.maxDynamic {
		return false
	}
	s.dynamic++
	s.clients[cl.id] = cl
	return true
}

// newSession starts a session and returns its cookie.
func (s *store) newSession() (cookie string, _ session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cookie = newSecret()
	sess := session{id: rand.Text(), csrf: newSecret()}
	s.sessions.put(digestOf(cookie), sess, s.now().Add(sessionLifetime))
	return cookie, sess
}

func (s *store) session(cookie string) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions.get(digestOf(cookie), s.now())
}

// signIn puts user into the session that request id waits in. The session gets a new
// cookie and a new CSRF token, so that whoever planted the old ones is left outside
// (session fixation); for another user it is another session altogether.
func (s *store) signIn(cookie, id, user string) (fresh string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	sess, ok := s.sessions.get(digestOf(cookie), now)
	if !ok {
		return "", false
	}
	req, ok := s.requests.get(digestOf(id), now)
	if !ok || req.session != sess.id {
		return "", false
	}
	s.sessions.remove(digestOf(cookie))
	if sess.user != "" && sess.user != user {
		sess.id = rand.Text()
	}
	sess.user, sess.authTime, sess.csrf = user, now, newSecret()
	fresh = newSecret()
	s.sessions.put(digestOf(fresh), sess, now.Add(sessionLifetime))
	req.session, req.loginAgain = sess.id, false
	s.requests.put(digestOf(id), req, now.Add(requestLifetime))
	return fresh, true
}

func (s *store) addRequest(req authorizationRequest) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = newSecret()
	s.requests.put(digestOf(id), req, s.now().Add(requestLifetime))
	return id
}

// request returns the request of this id if it came from this session.
func (s *store) request(id string, sess session) (authorizationRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, ok := s.requests.get(digestOf(id), s.now())
	return req, ok && req.session == sess.id
}

// takeRequest is request, once: the answer of the user is given a single time.
func (s *store) takeRequest(id string, sess session) (authorizationRequest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, ok := s.requests.get(digestOf(id), s.now())
	if !ok || req.session != sess.id {
		return authorizationRequest{}, false
	}
	s.requests.remove(digestOf(id))
	return req, true
}

func (s *store) addCode(c code) (value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value = newSecret()
	now := s.now()
	c.expiry = now.Add(codeLifetime)
	// Kept as long as a token made from it may live: a replay must be seen until then.
	s.codes.put(digestOf(value), &c, now.Add(24*time.Hour))
	return value
}

// useCode spends a code: the first request that names it, right or wrong, is the only
// one. A later one also revokes the token that the first one got (RFC 6749 §4.1.2).
func (s *store) useCode(value string) (c code, replayed, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	entry, found := s.codes.get(digestOf(value), now)
	if !found {
		return code{}, false, false
	}
	if entry.used {
		entry.replayed = true
		s.tokens.remove(entry.token)
		return code{}, true, false
	}
	entry.used = true
	return *entry, false, now.Before(entry.expiry)
}

// addToken stores a token and returns its value. With the code it was asked for, ok is
// false if the code was replayed in between.
func (s *store) addToken(t *accessToken, codeValue string) (value string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value = newSecret()
	if codeValue != "" {
		entry, found := s.codes.get(digestOf(codeValue), s.now())
		if !found || entry.replayed {
			return "", false
		}
		entry.token = digestOf(value)
	}
	s.tokens.put(digestOf(value), t, t.expiry)
	return value, true
}

// addExchanged stores a token that has its value already.
func (s *store) addExchanged(value string, t *accessToken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.put(digestOf(value), t, t.expiry)
}

func (s *store) token(value string) (*accessToken, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens.get(digestOf(value), s.now())
}

func (s *store) revoke(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens.remove(digestOf(value))
}
