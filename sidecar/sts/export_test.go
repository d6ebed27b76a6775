package sts

import (
	"net/http"
)

// Fail answers as if the request had ended with err, which no request can bring about.
func (s *Service) Fail(w http.ResponseWriter, r *http.Request, err error) {
	s.refuse(w, r, s.cfg.Now(), nil, err)
}
