//! Certificates for servers on loopback and their clients.

use crate::error::Error;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

const OF_SERVER: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const OF_CLIENT: [&str; 1] = ["client"];

/// Makes a CA, and certificates signed by it for a server on loopback and a client: `ca.pem`,
/// `ca.key`, `server.pem`, `server.key`, `client.pem`, `client.key` in the folder, which is made
/// if need be. The keys are P-256 in PKCS #8; no other user can read the files.
///
/// # Errors
/// The folder cannot be written.
pub fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|e| Error::file("made", folder, &e))?;
    let (ca, issuer) = authority().map_err(|e| Error::new(format!("no CA could be made: {e}")))?;
    write(folder, "ca", [("pem", &ca), ("key", &issuer.key().serialize_pem())])?;
    // A cluster's servers are each other's clients, so a server's certificate is good for both.
    let both = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    for (who, names, uses) in [
        ("server", OF_SERVER.as_slice(), both),
        ("client", OF_CLIENT.as_slice(), vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ] {
        let (certificate, key) = signed(&issuer, who, names, uses)
            .map_err(|e| Error::new(format!("no certificate of a {who} could be made: {e}")))?;
        write(folder, who, [("pem", &certificate), ("key", &key)])?;
    }
    Ok(())
}

/// Makes a pair of RSA keys, by which a server signs tokens and others check them: `NAME.key`, in
/// PKCS #8, and `NAME.pub` in the folder. No other user can read them.
///
/// # Errors
/// The folder cannot be written.
pub fn make_signing_keys(folder: &Path, name: &str) -> Result<(), Error> {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
        .map_err(|e| Error::new(format!("no pair of RSA keys could be made: {e}")))?;
    write(folder, name, [("pub", &pair.public_key_pem()), ("key", &pair.serialize_pem())])
}

/// Returns the parameters of a certificate that is valid at any time that a test may give a
/// process.
fn named(who: &str, names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("ci-servers {who}"));
    params.not_before = date_time_ymd(1990, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    Ok(params)
}

fn authority() -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = named("CA", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params.self_signed(&key)?.pem(), Issuer::new(params, key)))
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    who: &str,
    names: &[&str],
    uses: Vec<ExtendedKeyUsagePurpose>,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = named(who, names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = uses;
    params.use_authority_key_identifier_extension = true;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn write(folder: &Path, name: &str, parts: [(&str, &String); 2]) -> Result<(), Error> {
    for (suffix, content) in parts {
        let path = folder.join(format!("{name}.{suffix}"));
        let private = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        private
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(|e| Error::file("written", &path, &e))?;
    }
    Ok(())
}
