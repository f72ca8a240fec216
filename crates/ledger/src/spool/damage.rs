//! Damage in a spool: finding all of it, and setting the damaged files aside so that the node can
//! go on.
//!
//! Nothing of this happens by itself. A spool that can't be read where records had been promised
//! stays as it is until somebody asks for this; then the files are moved and not deleted, and the
//! first thing in the new one says what happened, so that the log has it too.

use super::Head;
use super::SpoolError;
use super::core;
use super::core::SegmentName;
use super::frame;
use super::frame::Link;
use super::frame::Reader;
use super::frame::Stop;
use crate::Hash;
use crate::envelope;
use crate::envelope::Envelope;
use crate::envelope::NO_PREVIOUS;
use crate::storage::File;
use crate::storage::Open;
use crate::storage::Storage;
use crate::tree::sha256;
use std::sync::Arc;

/// A file that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideFile {
    /// Where it is now, below the data folder.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content.
    pub sha256: Hash,
}

/// What setting damaged files aside did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The node whose spool it is.
    pub node: String,
    /// The segment with the damage, as it was named.
    pub segment: String,
    /// Where in it the damage starts, in bytes.
    pub offset: u64,
    /// The first record that can't be read.
    pub broken: u64,
    /// Where the new chain begins: at the damage, or where the log is if that is further.
    pub resumed: u64,
    /// How many records behind the damage could be kept, because the log has all those before.
    pub saved: u64,
    /// The sequence behind the last record that is still readable in the files set aside.
    pub written: u64,
    /// Whether all of it can be read, but the log has other records: the spool was put back to an
    /// earlier state and has grown since. How many of those before `resumed` are others than the
    /// log's is not known.
    pub forked: bool,
    /// The files.
    pub files: Vec<AsideFile>,
}

impl SetAside {
    /// How many records are known to be in the files set aside and nowhere else.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.written.saturating_sub(self.resumed + self.saved)
    }
}

/// Where a spool can't be read on.
struct Damage {
    /// Of the segment, among all.
    index: usize,
    offset: u64,
    /// The chain up to there; unknown if the oldest segment's start is what is damaged.
    link: Option<Link>,
    /// Whether it can be read, but is not what the log has.
    forked: bool,
}

/// What reading all of a spool came to.
struct Found {
    damage: Option<Damage>,
    end: End,
}

/// Where a spool ends that can be read.
struct End {
    index: usize,
    offset: u64,
    link: Link,
}

impl End {
    /// A spool that has fewer records than the log has of it lost them, however whole it looks.
    fn behind(self, logged: Option<Head>) -> Option<Damage> {
        let behind = logged.is_some_and(|log| self.link.next < log.next);
        behind.then_some(Damage {
            index: self.index,
            offset: self.offset,
            link: Some(self.link),
            forked: false,
        })
    }
}

/// The segments of a spool as they lie there.
struct Files<'a> {
    storage: &'a dyn Storage,
    folder: String,
    node: Arc<str>,
    names: Vec<SegmentName>,
}

/// The segment with which the spool goes on.
struct Fresh {
    name: SegmentName,
    content: Vec<u8>,
    link: Link,
    saved: u64,
    /// Which of the old segments go: those from this one on.
    from: usize,
}

/// Sets the damaged segments of a node's spool aside, if there are any, in
/// `set-aside/<node>-<number>/`. `logged` is how far the log is with the node: what it has is not
/// needed any more, a chain that is damaged before that goes on there, and one that came there by
/// other records counts as damaged. `alarm` makes the record
/// that comes first in what goes on, canonical JSON.
///
/// # Errors
/// [`SpoolError`]; [`SpoolError::Corrupt`] if there is nowhere to go on, because the oldest
/// segment's start is damaged and it is not known where the log is. Called again after a crash, it
/// finishes.
pub fn set_aside(
    storage: &dyn Storage,
    node: &str,
    logged: Option<Head>,
    alarm: impl FnOnce(&SetAside) -> Vec<u8>,
) -> Result<Option<SetAside>, SpoolError> {
    if !envelope::is_node_name(node) {
        let shown = node.escape_debug().take(256).collect();
        return Err(SpoolError::NodeName(shown));
    }
    let folder = core::folder(node);
    let _lock = storage.lock(&format!("{folder}/lock"))?;
    let names = core::segments(storage, &folder)?;
    let files = Files {
        storage,
        folder,
        node: node.into(),
        names,
    };
    let found = files.damage(logged)?;
    let Some(damage) = found.damage.or_else(|| found.end.behind(logged)) else {
        return Ok(None);
    };
    let fresh = files.go_on(&damage, logged)?;
    let segment = files.path_of(damage.index);
    let to = files.room_aside()?;
    let done = SetAside {
        node: node.to_owned(),
        segment,
        offset: damage.offset,
        broken: damage.link.map_or(0, |link| link.next),
        resumed: fresh.link.next - fresh.saved,
        saved: fresh.saved,
        written: files.written(fresh.from)?.max(fresh.link.next),
        forked: damage.forked,
        files: files.aside(fresh.from, &to)?,
    };
    let alarm = alarm(&done);
    files.replace(fresh, &alarm, &to)?;
    Ok(Some(done))
}

impl Files<'_> {
    fn path(&self, name: SegmentName) -> String {
        format!("{}/{name}", self.folder)
    }

    fn path_of(&self, index: usize) -> String {
        let name = self.names.get(index);
        name.map_or_else(|| self.folder.clone(), |name| self.path(*name))
    }

    /// Segments from an index on that are not superseded, each with the sequence at which its
    /// successor starts: what lies behind that was never promised.
    fn in_use(&self, from: usize) -> impl Iterator<Item = (usize, SegmentName, Option<u64>)> {
        let all = self.names.iter().enumerate().skip(from);
        all.filter_map(|(index, name)| {
            let end = self.names.get(index + 1).map(|after| after.first);
            (end != Some(name.first)).then_some((index, *name, end))
        })
    }

    /// The first place that can't be read although it was promised, or that the log has otherwise;
    /// a torn tail is neither.
    fn damage(&self, logged: Option<Head>) -> Result<Found, SpoolError> {
        let beginning = Link {
            next: 0,
            hash: NO_PREVIOUS,
        };
        let mut chain: Option<Link> = None;
        let (mut last, mut ended) = (0, 0);
        let mut damage = None;
        for (index, name, end) in self.in_use(0) {
            let file = self.storage.open(&self.path(name), Open::Read)?;
            let header = frame::read_segment_header(&*file)?;
            let torn = header.is_none() && end.is_none();
            if torn && core::highest_mark(&*file, 0)?.is_none() {
                break;
            }
            let follows = |start: &Link| {
                start.next == name.first && chain.is_none_or(|chain| chain == *start)
            };
            let at = |offset, link, forked| Damage {
                index,
                offset,
                link,
                forked,
            };
            let Some(start) = header.filter(follows) else {
                let link = chain.or((name.first == 0).then_some(beginning));
                damage = Some(at(0, link, false));
                break;
            };
            if is_other(start, logged) {
                damage = Some(at(0, Some(start), true));
                break;
            }
            let mut reader = Reader::new(Arc::clone(&file), Arc::clone(&self.node), start);
            match read_through(&mut reader, &*file, end, logged)? {
                Through::Whole => {}
                Through::Broken => {
                    damage = Some(at(reader.offset, Some(reader.link), false));
                    break;
                }
                Through::Forked { offset, link } => {
                    damage = Some(at(offset, Some(link), true));
                    break;
                }
            }
            chain = Some(reader.link);
            (last, ended) = (index, reader.offset);
        }
        Ok(Found {
            damage,
            end: End {
                index: last,
                offset: ended,
                link: chain.unwrap_or(beginning),
            },
        })
    }

    /// What the spool goes on with: all before the damage, or, where the log has the damaged
    /// records, what comes after those it has.
    fn go_on(&self, damage: &Damage, logged: Option<Head>) -> Result<Fresh, SpoolError> {
        let logged = logged.map(|log| Link {
            next: log.next,
            hash: log.hash,
        });
        let reached = |log: &Link| damage.link.is_none_or(|link| link.next <= log.next);
        if let Some(log) = logged.filter(reached) {
            return self.after(log);
        }
        let corrupt = || SpoolError::Corrupt {
            segment: self.path_of(damage.index),
            offset: damage.offset,
            seq: damage.link.map_or(0, |link| link.next),
        };
        let link = damage.link.ok_or_else(corrupt)?;
        let mut content = frame::segment_header(link);
        let mut first = link.next;
        if damage.offset > 0 {
            content = self
                .storage
                .read(&self.path_of(damage.index))?
                .unwrap_or_default();
            content.truncate(usize::try_from(damage.offset).unwrap_or(usize::MAX));
            first = self
                .names
                .get(damage.index)
                .map_or(first, |name| name.first);
        }
        Ok(Fresh {
            name: self.unused(first),
            content,
            link,
            saved: 0,
            from: damage.index,
        })
    }

    fn after(&self, log: Link) -> Result<Fresh, SpoolError> {
        let (mut content, mut link) = (frame::segment_header(log), log);
        self.frames(0, |bytes, hash, envelope| {
            if envelope.seq == link.next && envelope.prev == link.hash {
                content.extend_from_slice(bytes);
                link = Link {
                    next: envelope.seq + 1,
                    hash,
                };
            }
        })?;
        Ok(Fresh {
            name: self.unused(log.next),
            content,
            link,
            saved: link.next - log.next,
            from: 0,
        })
    }

    /// Shows every readable record of this node that counts, from a segment on.
    fn frames(
        &self,
        from: usize,
        mut show: impl FnMut(&[u8], Hash, &Envelope<'_>),
    ) -> Result<(), SpoolError> {
        for (_, name, end) in self.in_use(from) {
            let bytes = self.storage.read(&self.path(name))?.unwrap_or_default();
            for (bytes, frame) in frame::whole(&bytes) {
                let envelope = Envelope::frame(frame.leaf);
                let counts = |it: &Envelope<'_>| {
                    it.node == &*self.node && end.is_none_or(|end| it.seq < end)
                };
                if let Some(envelope) = envelope.filter(counts) {
                    show(bytes, frame.hash, &envelope);
                }
            }
        }
        Ok(())
    }

    fn written(&self, from: usize) -> Result<u64, SpoolError> {
        let mut written = 0;
        self.frames(from, |_, _, envelope| {
            written = written.max(envelope.seq + 1);
        })?;
        Ok(written)
    }

    /// A name that supersedes every segment with this start.
    fn unused(&self, first: u64) -> SegmentName {
        let same = self.names.iter().filter(|name| name.first == first);
        let attempt = same.map(|name| name.attempt + 1).max().unwrap_or(0);
        SegmentName { first, attempt }
    }

    fn room_aside(&self) -> Result<String, SpoolError> {
        let there = self.storage.list("set-aside")?;
        let mut numbers = 1..;
        let name = numbers.find_map(|number: u64| {
            let name = format!("{}-{number}", self.node);
            (!there.contains(&name)).then_some(name)
        });
        Ok(format!("set-aside/{}", name.unwrap_or_default()))
    }

    fn aside(&self, from: usize, to: &str) -> Result<Vec<AsideFile>, SpoolError> {
        let mut files = Vec::new();
        for name in self.names.iter().skip(from) {
            let content = self.storage.read(&self.path(*name))?.unwrap_or_default();
            files.push(AsideFile {
                path: format!("{to}/{name}"),
                bytes: content.len() as u64,
                sha256: sha256(&content),
            });
        }
        Ok(files)
    }

    /// Puts the fresh segment in place, durably, before any of the old ones goes: whatever a crash
    /// leaves has the alarm in it or is still damaged.
    fn replace(&self, fresh: Fresh, alarm: &[u8], to: &str) -> Result<(), SpoolError> {
        let mut content = fresh.content;
        let next = fresh.link.next;
        frame::write_frame(&mut content, &self.node, fresh.link, alarm, next);
        let temporary = format!("{}/set-aside.new", self.folder);
        self.storage.write(&temporary, &content)?;
        self.storage.rename(&temporary, &self.path(fresh.name))?;
        self.storage.sync_dir(&self.folder)?;
        self.storage.write(&format!("{to}/record.json"), alarm)?;
        for name in self.names.iter().skip(fresh.from).rev() {
            let old = self.path(*name);
            self.storage.rename(&old, &format!("{to}/{name}"))?;
        }
        self.storage.sync_dir(to)?;
        self.storage.sync_dir(&self.folder)?;
        Ok(())
    }
}

/// What reading a segment came to.
enum Through {
    /// All that was promised in it is there.
    Whole,
    /// Up to where the reader is.
    Broken,
    /// The record at this place is another than the log has.
    Forked {
        offset: u64,
        /// The chain before it.
        link: Link,
    },
}

/// Whether a chain is as far as the log, but came there by other records.
fn is_other(link: Link, logged: Option<Head>) -> bool {
    logged.is_some_and(|log| log.next == link.next && log.hash != link.hash)
}

/// Reads a segment up to the record at which the next one starts, or to its end.
fn read_through(
    reader: &mut Reader,
    file: &dyn File,
    end: Option<u64>,
    logged: Option<Head>,
) -> Result<Through, SpoolError> {
    let length = file.len()?;
    while end.is_none_or(|end| reader.link.next < end) {
        let (offset, link) = (reader.offset, reader.link);
        let read = reader.next(length).map(|_| ());
        match read {
            Ok(()) if is_other(reader.link, logged) => {
                return Ok(Through::Forked { offset, link });
            }
            Ok(()) => {}
            Err(Stop::Storage(error)) => return Err(error.into()),
            Err(Stop::End) if end.is_none() => return Ok(Through::Whole),
            Err(Stop::End | Stop::Bad) => {
                let mark = core::highest_mark(file, reader.offset)?;
                let promised = mark.is_some_and(|mark| mark > reader.link.next);
                let whole = end.is_none() && !promised;
                return Ok(if whole {
                    Through::Whole
                } else {
                    Through::Broken
                });
            }
        }
    }
    Ok(Through::Whole)
}
