package sts

import "net/http"

// Fail answers as if deciding had ended with err, which no request can bring about.
func (s *Service) Fail(w http.ResponseWriter, r *http.Request, err error) {
	s.refuse(r.Context(), w, &event{started: s.cfg.Now()}, err)
}
