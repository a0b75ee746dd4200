//! Carries out the steps of backups and restorations.

use futures_util::future::join_all;
use tidegate_engine::backup::{Item, items, sha256, stored};
use tidegate_engine::database::DatabaseError;
use tidegate_engine::directory::backups::{self, Outcome, PACKED_BYTES, PIECE_BYTES, Part, Step, Work, part_name};
use tidegate_engine::directory::erasure::BACKED_UP_KINDS;
use tidegate_protocol::calls::backup::Call;
use tidegate_protocol::calls::tenant;
use tidegate_protocol::ids::{ObjectName, TenantId};
use tidegate_protocol::{Error, ErrorCode};
use worker::{Bucket, HttpMetadata, Range};

use super::Directory;
use crate::backup::read;
use crate::platform::{log_error, now, unavailable};
use crate::{remote, storage};

/// Things that are looked at for one part.
const PACKED_MAX: u32 = 200;
/// Separates the key of a thing that is copied piece by piece from the tag of its content.
const TAGGED: char = '\n';

fn unwritten(error: DatabaseError) -> Error {
    Error::new(ErrorCode::InternalError, error.message)
}

fn broken(message: String) -> Error {
    Error::new(ErrorCode::Conflict, message)
}

impl Directory {
    /// Takes the next step of a backup. `false`: none is due.
    pub(super) async fn back_up(&self) -> bool {
        let due = self.turn(|db| match backups::due(db, now())? {
            Some(work) => Ok(Some((backups::step(db, &work)?, work))),
            None => Ok(None),
        });
        let Ok(Some((step, work))) = due else { return false };
        // A moment that is lost is tried again; what else is refused will be refused again.
        let is_moment = matches!(step, Step::Cut(..));
        let outcome = match self.take_backup_step(&work, step).await {
            Ok(outcome) => outcome,
            Err(error) if error.code == ErrorCode::Conflict && !is_moment => {
                Outcome::Broken(error.message.into_owned())
            }
            Err(error) => {
                log_error("a step of a backup", error);
                Outcome::Failed
            }
        };
        self.turn(|db| backups::took(db, now(), &work, outcome)).is_ok()
    }

    async fn take_backup_step(&self, work: &Work, step: Step) -> Result<Outcome, Error> {
        let prefix = storage::backup(&work.tenant, &work.id);
        let name = |number| format!("{prefix}{}", part_name(number));
        match step {
            Step::Spread => self.spread(&work.tenant).await,
            Step::Cut(objects, moment) => self.cut(&objects, moment).await,
            Step::Upload(object, after, number) => {
                let call = Call::Upload { prefix, after, number };
                Ok(Outcome::Parts(remote::backup(&self.env, &object, &call).await?.parts))
            }
            Step::Copy(kind, key, from, number) => {
                let list = storage::prefix(&work.tenant, kind);
                self.copy((kind, &list), &key, from, (number, &name(number))).await
            }
            Step::Manifest => {
                let text = self.turn(|db| backups::manifest(db, work))?;
                let hash = sha256(text.as_bytes());
                self.put(&name(0), text.into_bytes()).await?;
                Ok(Outcome::Manifest(hash))
            }
            Step::Release(object, by) => {
                remote::backup(&self.env, &object, &Call::Release { by }).await?;
                Ok(Outcome::Done)
            }
            Step::Read => {
                let bytes = read(&self.env, &name(0), None).await?;
                let hash = sha256(&bytes);
                Ok(Outcome::Read(String::from_utf8_lossy(&bytes).into_owned(), hash))
            }
            Step::Check(part) => {
                let bytes = read(&self.env, &name(part.part), Some(&part.sha256)).await?;
                check(&work.tenant, &part, &bytes)?;
                Ok(Outcome::Done)
            }
            Step::Write(part, schema) => self.write(&part, schema, name).await,
            Step::Finish(object, version, by) => {
                let reply = remote::backup(&self.env, &object, &Call::Finish { version, by }).await?;
                Ok(match object {
                    ObjectName::Tenant(_) => Outcome::Finished(reply.version),
                    _ => Outcome::Done,
                })
            }
            Step::Open(object) => {
                remote::backup(&self.env, &object, &Call::Open).await?;
                Ok(Outcome::Done)
            }
            Step::Delete => {
                let removed = self.remove_stored(&prefix).await;
                let removed = removed.map_err(unavailable("object storage"))?;
                Ok(if removed.more { Outcome::More } else { Outcome::Done })
            }
        }
    }

    fn bucket(&self) -> Result<Bucket, Error> {
        self.env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let put = storage::write(self.bucket()?.put(key, bytes)).await;
        put.map(drop).map_err(unavailable("object storage"))
    }

    async fn spread(&self, tenant: &TenantId) -> Result<Outcome, Error> {
        match remote::tenant(
            &self.env,
            tenant,
            &tenant::Call::Since {
                version: u64::MAX >> 12,
            },
        )
        .await?
        {
            tenant::Reply::Description(description) => Ok(Outcome::Spread(description.scale.hubs, description.reach())),
            _ => Err(broken("The gate answered another question.".into())),
        }
    }

    /// Has all objects put by what they hold. None of them answers anything between the first word and its own moment.
    async fn cut(&self, objects: &[ObjectName], moment: u64) -> Result<Outcome, Error> {
        let begun = now();
        for call in [Call::Hold { moment }, Call::Snapshot { moment }] {
            let asked = objects.iter().map(|object| remote::backup(&self.env, object, &call));
            for answer in join_all(asked).await {
                answer?;
            }
        }
        Ok(Outcome::Cut(now().since(begun)))
    }

    /// Makes a part of what lies in object storage behind `key`; or from a byte of it on, where it is copied piece by piece.
    async fn copy(
        &self,
        (kind, prefix): (u16, &str),
        key: &str,
        from: u64,
        (number, name): (u64, &str),
    ) -> Result<Outcome, Error> {
        let bucket = self.bucket()?;
        let failed = || unavailable("object storage");
        let (mut packed, mut holds, mut next) = (Vec::new(), 0, None);
        if let Some((key, tag)) = key.rsplit_once(TAGGED) {
            let range = Range::OffsetWithLength {
                offset: from,
                length: PIECE_BYTES,
            };
            let head = bucket.head(key).await.map_err(failed())?;
            let Some(head) = head else {
                return Ok(Outcome::Copied(None, Some((key.into(), 0))));
            };
            if head.etag() != tag {
                // It was replaced meanwhile: what was copied of it is left behind, and its copy begins anew.
                return Ok(Outcome::Copied(
                    None,
                    Some((format!("{key}{TAGGED}{}", head.etag()), 0)),
                ));
            }
            let found = storage::read(bucket.get(key).range(range)).await.map_err(failed())?;
            let Some(body) = found
                .as_ref()
                .filter(|found| found.etag() == tag)
                .and_then(worker::Object::body)
            else {
                return Ok(Outcome::Copied(None, Some((key.into(), 0))));
            };
            let bytes = body.bytes().await.map_err(failed())?;
            let kind = head.http_metadata().content_type;
            packed = stored(packed, key, kind.as_deref(), (head.size(), from), &bytes);
            holds = u64::from(from == 0);
            let end = from + PIECE_BYTES;
            next = Some(if end < head.size() {
                (format!("{key}{TAGGED}{tag}"), end)
            } else {
                (key.to_owned(), 0)
            });
        } else {
            let list = bucket.list().prefix(prefix).limit(PACKED_MAX);
            let list = if key.is_empty() { list } else { list.start_after(key) };
            for object in list.execute().await.map_err(failed())?.objects() {
                let key = object.key();
                if object.size() > PIECE_BYTES {
                    if holds == 0 {
                        return Ok(Outcome::Copied(
                            None,
                            Some((format!("{key}{TAGGED}{}", object.etag()), 0)),
                        ));
                    }
                    break;
                }
                let found = storage::read(bucket.get(key.as_str())).await.map_err(failed())?;
                // What was deleted meanwhile is not there any more.
                if let Some(found) = found {
                    let bytes = match found.body() {
                        Some(body) => body.bytes().await.map_err(failed())?,
                        None => Vec::new(),
                    };
                    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    let kind = found.http_metadata().content_type;
                    packed = stored(packed, &key, kind.as_deref(), (size, 0), &bytes);
                    holds += 1;
                }
                next = Some((key, 0));
                if packed.len() >= PACKED_BYTES {
                    break;
                }
            }
        }
        if packed.is_empty() {
            return Ok(Outcome::Copied(None, next));
        }
        let part = Part {
            part: number,
            of: storage::kind_name(kind).into(),
            schema: 0,
            holds,
            bytes: u64::try_from(packed.len()).unwrap_or(u64::MAX),
            sha256: sha256(&packed),
        };
        self.put(name, packed).await?;
        Ok(Outcome::Copied(Some(part.line().map_err(unwritten)?), next))
    }

    /// Writes a part to where it came from.
    async fn write(&self, part: &Part, schema: Option<u64>, name: impl Fn(u64) -> String) -> Result<Outcome, Error> {
        let key = name(part.part);
        if let Some(object) = ObjectName::parse(&part.of) {
            let sha256 = part.sha256.clone();
            let call = Call::Restore { key, sha256, schema };
            remote::backup(&self.env, &object, &call).await?;
            return Ok(Outcome::Done);
        }
        let bytes = read(&self.env, &key, Some(&part.sha256)).await?;
        let bucket = self.bucket()?;
        for item in items(&bytes) {
            let Item::Stored {
                key,
                content_type,
                size,
                offset,
                bytes,
            } = item.map_err(unwritten)?
            else {
                continue;
            };
            let metadata = HttpMetadata {
                content_type,
                ..HttpMetadata::default()
            };
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if offset == 0 && length == size {
                let put = bucket.put(key, bytes).http_metadata(metadata);
                storage::write(put).await.map_err(unavailable("object storage"))?;
            } else if offset == 0 {
                self.join((&key, size), metadata, bytes, part.part, &name).await?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Writes a large thing, whose pieces are in the parts behind the one of its first. Its pieces that come later are passed
    /// over then; one whose copy was begun anew is written where that begins.
    async fn join(
        &self,
        (key, size): (&str, u64),
        metadata: HttpMetadata,
        first: Vec<u8>,
        part: u64,
        name: impl Fn(u64) -> String,
    ) -> Result<(), Error> {
        let failed = || unavailable("object storage");
        let bucket = self.bucket()?;
        let upload = bucket.create_multipart_upload(key).http_metadata(metadata).execute();
        let upload = upload.await.map_err(failed())?;
        let (mut written, mut pieces, mut piece) = (0, Vec::new(), first);
        for number in 1..=u16::MAX {
            written += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            pieces.push(upload.upload_part(number, piece).await.map_err(failed())?);
            if written >= size {
                return upload.complete(pieces).await.map(drop).map_err(failed());
            }
            let next = read(&self.env, &name(part + u64::from(number)), None).await?;
            piece = match items(&next).next() {
                Some(Ok(Item::Stored {
                    key: of, offset, bytes, ..
                })) if of == key && offset == written => bytes,
                _ => break,
            };
        }
        upload.abort().await.map_err(failed())
    }
}

/// Whether a part holds what it says, and nothing of anybody else's.
fn check(tenant: &TenantId, part: &Part, bytes: &[u8]) -> Result<(), Error> {
    let number = part.part;
    let kind = (0..BACKED_UP_KINDS).find(|kind| storage::kind_name(*kind) == part.of);
    let prefix = kind.map(|kind| storage::prefix(tenant, kind));
    if prefix.is_none() && ObjectName::parse(&part.of).is_none() {
        return Err(broken(format!(
            "Part {number} is of {}, which is nothing known.",
            part.of
        )));
    }
    let mut holds = 0;
    for item in items(bytes) {
        let item = item.map_err(|_| broken(format!("Part {number} cannot be read.")))?;
        let (fits, counts) = match (&item, &prefix) {
            (Item::Stored { key, offset, .. }, Some(prefix)) => (key.starts_with(prefix.as_str()), *offset == 0),
            (Item::Row(_), None) => (true, true),
            (Item::Table(..), None) => (true, false),
            _ => (false, false),
        };
        if !fits {
            return Err(broken(format!(
                "Part {number} holds something that is not of {}.",
                part.of
            )));
        }
        holds += u64::from(counts);
    }
    if holds != part.holds || u64::try_from(bytes.len()) != Ok(part.bytes) {
        return Err(broken(format!(
            "Part {number} does not hold as much as the manifest says."
        )));
    }
    Ok(())
}
