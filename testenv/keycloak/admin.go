package keycloak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// SetUserEnabled switches a user of the realm on or off.
func (s *Server) SetUserEnabled(ctx context.Context, name string, enabled bool) error {
	id, err := s.userID(ctx, name)
	if err != nil {
		return err
	}
	return s.manage(ctx, http.MethodPut, "/users/"+id, map[string]any{"enabled": enabled}, nil)
}

// EndSessions signs a user of the realm out everywhere.
func (s *Server) EndSessions(ctx context.Context, name string) error {
	id, err := s.userID(ctx, name)
	if err != nil {
		return err
	}
	return s.manage(ctx, http.MethodPost, "/users/"+id+"/logout", nil, nil)
}

func (s *Server) userID(ctx context.Context, name string) (string, error) {
	var found []struct {
		ID string `json:"id"`
	}
	query := url.Values{"username": {name}, "exact": {"true"}}
	if err := s.manage(ctx, http.MethodGet, "/users?"+query.Encode(), nil, &found); err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("looking for user %s: expected one, got %d", name, len(found))
	}
	return found[0].ID, nil
}

// SetClientPolicy switches a client policy of the realm on or off.
func (s *Server) SetClientPolicy(ctx context.Context, name string, enabled bool) error {
	const path = "/client-policies/policies"
	var all struct {
		Policies []map[string]any `json:"policies"`
	}
	if err := s.manage(ctx, http.MethodGet, path, nil, &all); err != nil {
		return err
	}
	for _, policy := range all.Policies {
		if policy["name"] == name {
			policy["enabled"] = enabled
			return s.manage(ctx, http.MethodPut, path, all, nil)
		}
	}
	return fmt.Errorf("looking for client policy %s: there is none", name)
}

// SetClientAttribute sets an attribute of a client of the realm.
func (s *Server) SetClientAttribute(ctx context.Context, client, name, value string) error {
	var found []map[string]any
	if err := s.manage(ctx, http.MethodGet, "/clients?"+url.Values{"clientId": {client}}.Encode(), nil, &found); err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("looking for client %s: expected one, got %d", client, len(found))
	}
	id, _ := found[0]["id"].(string)
	attributes, _ := found[0]["attributes"].(map[string]any)
	if id == "" || attributes == nil {
		return fmt.Errorf("looking for client %s: expected its id and attributes, got none", client)
	}
	attributes[name] = value
	return s.manage(ctx, http.MethodPut, "/clients/"+url.PathEscape(id), found[0], nil)
}

// RemoveMapper takes a mapper out of a client scope of the realm and returns what puts it back.
func (s *Server) RemoveMapper(ctx context.Context, scope, name string) (restore func(context.Context) error, err error) {
	type mapper = map[string]any
	var scopes []struct {
		ID      string   `json:"id"`
		Name    string   `json:"name"`
		Mappers []mapper `json:"protocolMappers"`
	}
	if err := s.manage(ctx, http.MethodGet, "/client-scopes", nil, &scopes); err != nil {
		return nil, err
	}
	for _, one := range scopes {
		for _, m := range one.Mappers {
			id, ok := m["id"].(string)
			if one.Name != scope || m["name"] != name || !ok {
				continue
			}
			path := "/client-scopes/" + url.PathEscape(one.ID) + "/protocol-mappers/models"
			if err := s.manage(ctx, http.MethodDelete, path+"/"+url.PathEscape(id), nil, nil); err != nil {
				return nil, err
			}
			return func(ctx context.Context) error { return s.manage(ctx, http.MethodPost, path, m, nil) }, nil
		}
	}
	return nil, fmt.Errorf("looking for mapper %q of client scope %s: there is none", name, scope)
}

// AddSigningKey gives the realm a new key, which signs from now on. The old one goes on to
// verify what it has signed.
func (s *Server) AddSigningKey(ctx context.Context) error {
	return s.manage(ctx, http.MethodPost, "/components", map[string]any{
		"name": "rotated", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
		"config": map[string][]string{
			"priority": {"200"}, "enabled": {"true"}, "active": {"true"}, "algorithm": {"RS256"}, "keySize": {"2048"},
		},
	}, nil)
}

// RemoveOldSigningKeys removes the signing keys that the realm began with.
func (s *Server) RemoveOldSigningKeys(ctx context.Context) error {
	var keys []struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		ProviderID string `json:"providerId"`
	}
	if err := s.manage(ctx, http.MethodGet, "/components?type=org.keycloak.keys.KeyProvider", nil, &keys); err != nil {
		return err
	}
	for _, key := range keys {
		if key.ProviderID == "rsa-generated" && key.Name != "rotated" {
			if err := s.manage(ctx, http.MethodDelete, "/components/"+url.PathEscape(key.ID), nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// manage calls the admin API for the realm. out, if not nil, gets the JSON of the answer.
func (s *Server) manage(ctx context.Context, method, path string, in, out any) error {
	token, err := s.adminToken(ctx)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return fmt.Errorf("calling the admin API: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL()+"/admin/realms/"+s.realm+path, &body)
	if err != nil {
		return fmt.Errorf("calling the admin API: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return s.call(req, out)
}

// adminToken signs the administrator in. Its tokens live for a minute, so each call has its
// own.
func (s *Server) adminToken(ctx context.Context) (string, error) {
	form := url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {adminName}, "password": {s.admin}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/realms/master/protocol/openid-connect/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("calling the admin API: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := s.call(req, &answer); err != nil {
		return "", err
	}
	return answer.AccessToken, nil
}

func (s *Server) call(req *http.Request, out any) error {
	res, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("calling the admin API: %w", err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("calling the admin API: %w", err)
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("calling the admin API: expected status 2xx from %s %s, got %d", req.Method, req.URL.Path, res.StatusCode)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("calling the admin API: %w", err)
	}
	return nil
}
