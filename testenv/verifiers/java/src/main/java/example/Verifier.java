package example;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.jwk.source.RateLimitReachedException;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.util.DefaultResourceRetriever;
import com.nimbusds.jose.util.health.HealthStatus;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.net.MalformedURLException;
import java.net.URI;
import java.net.URL;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.http.HttpMethod;
import org.springframework.http.client.SimpleClientHttpRequestFactory;
import org.springframework.security.authentication.AuthenticationServiceException;
import org.springframework.security.config.ObjectPostProcessor;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.config.annotation.web.configurers.AbstractHttpConfigurer;
import org.springframework.security.config.http.SessionCreationPolicy;
import org.springframework.security.core.annotation.AuthenticationPrincipal;
import org.springframework.security.oauth2.core.DelegatingOAuth2TokenValidator;
import org.springframework.security.oauth2.core.OAuth2Error;
import org.springframework.security.oauth2.core.OAuth2TokenValidator;
import org.springframework.security.oauth2.core.OAuth2TokenValidatorResult;
import org.springframework.security.oauth2.jwt.BadJwtException;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtDecoder;
import org.springframework.security.oauth2.jwt.JwtException;
import org.springframework.security.oauth2.jwt.JwtIssuerValidator;
import org.springframework.security.oauth2.jwt.JwtTimestampValidator;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;
import org.springframework.security.oauth2.server.resource.web.BearerTokenAuthenticationEntryPoint;
import org.springframework.security.oauth2.server.resource.web.authentication.BearerTokenAuthenticationFilter;
import org.springframework.security.web.SecurityFilterChain;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestClient;

/**
 * A small API that checks exchanged tokens with Spring Security. It is here to be copied:
 * docs/upstream-apis.md shows all of it.
 */
@SpringBootApplication
@RestController
public class Verifier {
    private static final Logger LOG = LoggerFactory.getLogger(Verifier.class);
    private static final Duration LEEWAY = Duration.ofSeconds(30); // between the clocks of issuer and API
    private static final int MAX_ACTORS = 8;
    // What this API accepts, whatever a token says of itself. For EdDSA, Nimbus needs Tink.
    private static final Set<JWSAlgorithm> ALGORITHMS =
            Set.of(JWSAlgorithm.ES256, JWSAlgorithm.RS256, JWSAlgorithm.PS256);

    public static void main(String[] args) {
        var application = new SpringApplication(Verifier.class);
        application.setDefaultProperties(Map.of("server.address", "127.0.0.1", "server.port", "${PORT}"));
        application.run(args);
    }

    @Bean
    SecurityFilterChain security(HttpSecurity http) throws Exception {
        var challenge = new BearerTokenAuthenticationEntryPoint();
        return http
                .authorizeHttpRequests(requests -> requests
                        .requestMatchers("/healthz").permitAll()
                        .requestMatchers(HttpMethod.GET, "/stocks").hasAuthority("SCOPE_stocks/read")
                        .requestMatchers(HttpMethod.POST, "/orders").hasAuthority("SCOPE_stocks/trade")
                        .anyRequest().denyAll())
                .oauth2ResourceServer(server -> server
                        .jwt(jwt -> {})
                        .withObjectPostProcessor(new ObjectPostProcessor<BearerTokenAuthenticationFilter>() {
                            @Override
                            public <F extends BearerTokenAuthenticationFilter> F postProcess(F filter) {
                                filter.setAuthenticationFailureHandler((request, response, failure) -> {
                                    if (failure instanceof AuthenticationServiceException) {
                                        // Nothing is known of the token. Spring would answer 500.
                                        LOG.error("tokens cannot be verified", failure);
                                        response.setHeader("Retry-After", "5");
                                        response.setStatus(503);
                                        return;
                                    }
                                    LOG.info("token refused: {}", failure.getMessage());
                                    challenge.commence(request, response, failure);
                                });
                                return filter;
                            }
                        }))
                .sessionManagement(session -> session.sessionCreationPolicy(SessionCreationPolicy.STATELESS))
                .csrf(AbstractHttpConfigurer::disable) // no cookies, no forms
                .build();
    }

    @Bean
    JwtDecoder jwtDecoder(
            @Value("${ISSUER}") String issuer,
            @Value("${AUDIENCE}") String audience,
            @Value("${JWKS_COOLDOWN:30}") long cooldown) {
        return new JwtDecoder() {
            private final AtomicBoolean issuerAnswers = new AtomicBoolean();
            private NimbusJwtDecoder decoder; // once the issuer's metadata were read

            @Override
            public Jwt decode(String token) {
                try {
                    return verifier().decode(token);
                } catch (BadJwtException e) {
                    throw e;
                } catch (JwtException e) {
                    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                        if (cause instanceof RateLimitReachedException && issuerAnswers.get()) {
                            throw new BadJwtException("signed with a key that the issuer does not publish");
                        }
                    }
                    throw e;
                }
            }

            private synchronized NimbusJwtDecoder verifier() {
                if (decoder == null) {
                    decoder = decoder(issuer, audience, Duration.ofSeconds(cooldown), issuerAnswers);
                }
                return decoder;
            }
        };
    }

    /** The checks of an access token (RFC 9068 §4). */
    private static NimbusJwtDecoder decoder(
            String issuer, String audience, Duration cooldown, AtomicBoolean issuerAnswers) {
        // Keeps the key set for ten minutes and fetches it again for a key id that it does not
        // know, but not more than twice in every cooldown: anybody can send a token with an
        // invented key id.
        var keys = JWKSourceBuilder.create(keySet(issuer), new DefaultResourceRetriever(5000, 5000, 1 << 20))
                .cache(Duration.ofMinutes(10).toMillis(), 5000)
                .rateLimited(cooldown.toMillis())
                .healthReporting(report -> issuerAnswers.set(report.getHealthStatus() == HealthStatus.HEALTHY))
                .build();
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(ALGORITHMS, keys));
        // Nothing but an access token: an ID token of the same issuer has another type.
        processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(
                new JOSEObjectType("at+jwt"), new JOSEObjectType("application/at+jwt")));
        processor.setJWTClaimsSetVerifier((claims, context) -> {}); // below
        var decoder = new NimbusJwtDecoder(processor);
        decoder.setJwtValidator(new DelegatingOAuth2TokenValidator<>(
                new JwtIssuerValidator(issuer), // byte by byte
                require("kid", jwt -> jwt.getHeaders().get("kid") instanceof String),
                require("aud", jwt -> jwt.getAudience() != null && jwt.getAudience().contains(audience)),
                new JwtTimestampValidator(LEEWAY),
                require("exp or iat", jwt -> jwt.getExpiresAt() != null && jwt.getClaims().containsKey("iat")
                        && jwt.getIssuedAt().isBefore(Instant.now().plus(LEEWAY))),
                require("sub or client_id", jwt -> jwt.getSubject() != null && !jwt.getSubject().isEmpty()
                        && jwt.getClaims().get("client_id") instanceof String client && !client.isEmpty()),
                require("scope", jwt -> !jwt.hasClaim("scope") || jwt.getClaims().get("scope") instanceof String),
                require("cnf: bound to a key that nobody proves here", jwt -> !jwt.hasClaim("cnf")),
                require("act", jwt -> actors(jwt) != null)));
        return decoder;
    }

    private interface Check {
        boolean holds(Jwt jwt);
    }

    private static OAuth2TokenValidator<Jwt> require(String what, Check check) {
        return jwt -> check.holds(jwt)
                ? OAuth2TokenValidatorResult.success()
                : OAuth2TokenValidatorResult.failure(new OAuth2Error("invalid_token", "unacceptable " + what, null));
    }

    /** Asks the issuer's metadata where its keys are. */
    private static URL keySet(String issuer) {
        var requests = new SimpleClientHttpRequestFactory();
        requests.setConnectTimeout(Duration.ofSeconds(5));
        requests.setReadTimeout(Duration.ofSeconds(5));
        try {
            Map<?, ?> metadata = RestClient.builder().requestFactory(requests).build().get()
                    .uri(URI.create(issuer.replaceFirst("/$", "") + "/.well-known/openid-configuration"))
                    .retrieve().body(Map.class);
            if (metadata == null || !issuer.equals(metadata.get("issuer"))) {
                throw new JwtException("expected the metadata of the issuer, got another's");
            }
            return URI.create((String) metadata.get("jwks_uri")).toURL();
        } catch (RuntimeException | MalformedURLException e) {
            throw new JwtException("the keys of the issuer cannot be had", e);
        }
    }

    /** The names in act (RFC 8693 §4.1), the outermost first; null when act is malformed. */
    private static List<String> actors(Jwt jwt) {
        var chain = new ArrayList<String>();
        for (Object act = jwt.getClaims().get("act"); act != null; ) {
            if (!(act instanceof Map<?, ?> actor) || chain.size() == MAX_ACTORS) {
                return null;
            }
            Object name = actor.get("sub") != null ? actor.get("sub") : actor.get("client_id");
            if (!(name instanceof String text) || text.isEmpty()) {
                return null;
            }
            chain.add(text);
            act = actor.get("act");
        }
        return chain;
    }

    /**
     * Who is behind a token. Decide by actor, who acts for the user; chain is everybody who
     * acted, the last one first, and is for the log. client had the token issued.
     */
    record Who(
            String user,
            String client,
            @JsonProperty("acted_by") String actor,
            List<String> chain) {
        static Who of(Jwt jwt) {
            var client = jwt.getClaimAsString("client_id");
            var chain = actors(jwt);
            return new Who(jwt.getSubject(), client, chain.isEmpty() ? client : chain.get(0), chain);
        }
    }

    @GetMapping("/healthz")
    void health() {}

    @GetMapping("/stocks")
    Who stocks(@AuthenticationPrincipal Jwt jwt) {
        return answer(jwt);
    }

    @PostMapping("/orders")
    Who orders(@AuthenticationPrincipal Jwt jwt) {
        return answer(jwt);
    }

    private static Who answer(Jwt jwt) {
        var who = Who.of(jwt);
        LOG.info("request of {}", who);
        return who;
    }
}
