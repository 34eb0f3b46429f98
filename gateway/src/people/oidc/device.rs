//! Signing in on a terminal, with a code that is typed in a browser elsewhere (RFC 8628).

use std::time::Duration;

use oauth2::{DeviceAuthorizationUrl, PkceCodeChallenge, PkceCodeVerifier, Scope, StandardDeviceAuthorizationResponse};

use super::{OidcError, Provider, Subject, error::Why, exchanged, http::HttpError, now};

/// A sign-in on a terminal that was begun.
pub struct Device {
    begun: u64,
    verifier: PkceCodeVerifier,
    details: StandardDeviceAuthorizationResponse,
}

impl Device {
    /// What people type.
    pub fn code(&self) -> &str {
        self.details.user_code().secret()
    }

    /// Where they type it.
    pub fn address(&self) -> &str {
        self.details.verification_uri()
    }

    /// The same address with the code in it, where the provider has one.
    pub fn whole_address(&self) -> Option<&str> {
        self.details.verification_uri_complete().map(|uri| uri.secret().as_str())
    }

    /// For how long.
    pub fn life(&self) -> Duration {
        self.details.expires_in().min(LONGEST)
    }
}

impl Provider {
    /// Begins a sign-in on a terminal.
    ///
    /// # Errors
    /// The settings or the provider do not offer that, or it cannot be asked.
    pub async fn begin_device(&self) -> Result<Device, OidcError> {
        self.named(self.try_begin_device().await)
    }

    /// Waits until somebody has typed the code, asking as often as the provider wants. Dropped, it asks no more.
    ///
    /// # Errors
    /// They refuse, it takes too long, or what the provider says does not count.
    pub async fn finish_device(&self, device: Device) -> Result<Subject, OidcError> {
        self.named(self.try_finish_device(device).await)
    }

    async fn try_begin_device(&self) -> Result<Device, Why> {
        if !self.settings.device {
            return Err(Why::NoDevice("the settings do not say `device: true`"));
        }
        let metadata = self.metadata().await?;
        let endpoint = metadata.device_authorization_endpoint.clone();
        let endpoint = endpoint.ok_or(Why::NoDevice("the provider does not have them"))?;
        let client = self.client(&metadata)?.set_device_authorization_url(DeviceAuthorizationUrl::from_url(endpoint));
        // Not in the RFC; some providers want it of every flow, and others leave it alone.
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = self.scopes().into_iter().map(Scope::new);
        let details: StandardDeviceAuthorizationResponse = client
            .exchange_device_code()
            .add_scopes(scopes)
            .add_extra_param("code_challenge", challenge.as_str())
            .add_extra_param("code_challenge_method", challenge.method().as_str())
            .request_async(&|request| self.http.call(request))
            .await
            .map_err(exchanged)?;
        let address = details.verification_uri().parse();
        if !address.is_ok_and(|url| self.http.may_ask(&url)) {
            return Err(Why::Metadata("the address for codes is not https".to_owned()));
        }
        Ok(Device { begun: now(), verifier, details })
    }

    async fn try_finish_device(&self, device: Device) -> Result<Subject, Why> {
        let metadata = self.metadata().await?;
        let client = self.client(&metadata)?;
        let call = |request| async { self.http.call(request).await };
        let tokens = client
            .exchange_device_access_token(&device.details)
            .add_extra_param("code_verifier", device.verifier.secret())
            .request_async(&call, tokio::time::sleep, Some(device.life()))
            .await
            .map_err(exchanged::<HttpError, _>)?;
        let max_age = self.settings.max_age.map(|age| age.as_secs());
        self.subject(&metadata, &tokens, self.expected(None, device.begun, max_age, None)).await
    }
}

/// The longest that a code on a terminal is waited for.
const LONGEST: Duration = Duration::from_secs(15 * 60);
