//! The fold that a project's rows are: its uploads in the order in which they landed, and for each payment ID the row that
//! is left at the end. A row of a later upload with other content takes the place of the earlier one; one with the same
//! content changes nothing.
//!
//! [`place`](super::place()) is one step of this fold, onto what is there. Where uploads go, or come back at their old
//! place in the order, the steps after them count too, so the staged files of all uploads are asked: their payment IDs, in
//! passes of so many IDs at a time, and whole rows only where an ID is in several uploads. That bounds the memory, at some
//! 100 bytes for each ID of a pass and a bit for each row of a file; the time grows with the payments that the project ever
//! received, times the passes.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use arrow::{array::AsArray, compute::cast, datatypes::DataType};

use super::{
    LakeError, LakeFile, Meters, Placement, RowSet, Snapshot, StagedFile,
    collisions::{IDS_AT_A_TIME, each_id, each_identity, rows_of},
    file::{self, Part},
    materialise::Wanted,
    place::{Coming, Moves},
    verify,
};
use crate::{
    ids::{ChangeId, ProjectSlug, UploadId},
    payments::identity::payment_ids,
};

/// IDs of a pass of [`rebuild`]: just below where a hash set doubles, and then needs 71 MB.
const IDS_PER_PASS: usize = 3_500_000;

/// An upload that counts, and its staged rows of one project.
#[derive(Clone, Debug)]
pub struct LiveUpload {
    pub upload: UploadId,
    pub files: Vec<StagedFile>,
}

/// Makes the rows whose payment IDs stand in `affected`, the staged files of the uploads that come or go, those that the
/// fold over `live` gives, in the order in which those uploads landed. The caller holds the project's lock and has verified
/// the staged files.
///
/// Reads the payment IDs of all files of `live` and of the project in the lake once for each million of affected rows.
/// Rewrites the months that lose or gain rows, and no other.
pub fn refold(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    change: &ChangeId,
    affected: &[StagedFile],
    live: &[LiveUpload],
    meters: &Meters,
) -> Result<Placement, LakeError> {
    refold_in_passes(
        &Moves { root, snapshot, project, meters, leaving: &HashMap::new() },
        change,
        affected,
        live,
        IDS_AT_A_TIME,
    )
}

/// Makes the whole project anew from `live`, its uploads in the order in which they landed: every file that it has in the
/// snapshot goes. Staged files of which every row counts are linked. For a lake that is made from its uploads, and for the
/// repair of one.
///
/// Reads the payment IDs of all files of `live` once for each 3.5 million of their rows. The counts are those of an empty
/// project.
pub fn rebuild(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    change: &ChangeId,
    live: &[LiveUpload],
    meters: &Meters,
) -> Result<Placement, LakeError> {
    let empty = Snapshot::default();
    let moves = Moves { root, snapshot: &empty, project, meters, leaving: &HashMap::new() };
    let mut placement = rebuild_in_passes(&moves, change, live, IDS_PER_PASS)?;
    placement.removed = snapshot.project_files(project).cloned().collect();
    Ok(placement)
}

/// A row of a staged file.
#[derive(Clone, Copy, Debug)]
struct Place {
    upload: usize,
    file: usize,
    row: usize,
}

/// Rows of staged files.
#[derive(Default)]
struct StagedRows(HashMap<(usize, usize), RowSet>);

impl StagedRows {
    fn insert(&mut self, place: Place) {
        self.0.entry((place.upload, place.file)).or_default().insert(place.row);
    }

    fn count(&self) -> u64 {
        self.0.values().map(RowSet::count).sum()
    }
}

/// Payment IDs that are looked at together: those whose hash leaves the rest `number` when divided by `of`.
#[derive(Clone, Copy)]
struct Pass {
    number: u128,
    of: u128,
}

impl Pass {
    /// As many passes as so many rows need.
    fn all(rows: u64, at_a_time: usize) -> impl Iterator<Item = Self> {
        let of = u128::from(rows).div_ceil(at_a_time as u128);
        (0..of).map(move |number| Self { number, of })
    }

    fn has(self, id: u128) -> bool {
        id % self.of == self.number
    }
}

fn refold_in_passes(
    moves: &Moves<'_>,
    change: &ChangeId,
    affected: &[StagedFile],
    live: &[LiveUpload],
    at_a_time: usize,
) -> Result<Placement, LakeError> {
    let existing: Vec<Arc<LakeFile>> = moves.snapshot.project_files(moves.project).cloned().collect();
    verify(moves.root, &existing)?;
    let mut changes = Changes::default();
    for pass in Pass::all(affected.iter().map(|staged| staged.file.rows).sum(), at_a_time) {
        let mut ids: HashMap<u128, Option<Place>> = HashMap::new();
        for staged in affected {
            each_id(&staged.file.path, |_, id| {
                if pass.has(id) {
                    ids.insert(id, None);
                }
            })?;
        }
        find_winners(live, &mut ids)?;
        for lake_file in &existing {
            changes.compare(moves.root, lake_file, live, &mut ids)?;
        }
        ids.into_values().flatten().for_each(|place| changes.coming.insert(place));
    }
    let Changes { leaving, coming, replaced } = changes;
    let mut placement = Placement {
        new: coming.count().saturating_sub(replaced),
        corrected: replaced,
        withdrawn: leaving.values().map(RowSet::count).sum::<u64>() - replaced,
        ..Placement::default()
    };
    let coming = files_of(live).filter_map(|(at, file)| {
        let rows = coming.0.get(&at)?;
        Some(Coming { file, rows: if rows.count() == file.file.rows { Wanted::All } else { Wanted::Only(rows) } })
    });
    Moves { leaving: &leaving, ..*moves }.write(change, coming, &mut placement)?;
    Ok(placement)
}

fn rebuild_in_passes(
    moves: &Moves<'_>,
    change: &ChangeId,
    live: &[LiveUpload],
    at_a_time: usize,
) -> Result<Placement, LakeError> {
    let without = superseded(live, at_a_time)?;
    let rows: u64 = files_of(live).map(|(_, staged)| staged.file.rows).sum();
    let mut placement = Placement { new: rows - without.count(), ..Placement::default() };
    let coming = files_of(live).filter_map(|(at, file)| match without.0.get(&at) {
        None => Some(Coming { file, rows: Wanted::All }),
        Some(rows) if rows.count() == file.file.rows => None,
        Some(rows) => Some(Coming { file, rows: Wanted::Except(rows) }),
    });
    moves.write(change, coming, &mut placement)?;
    Ok(placement)
}

/// The staged files of `live`, each with the rows of it that the fold does not leave, if there are any.
pub(super) fn rows_left(live: &[LiveUpload]) -> Result<Vec<(&StagedFile, Option<RowSet>)>, LakeError> {
    let mut without = superseded(live, IDS_PER_PASS)?;
    Ok(files_of(live).map(|(at, staged)| (staged, without.0.remove(&at))).collect())
}

/// The rows of `live` that the fold does not leave.
fn superseded(live: &[LiveUpload], at_a_time: usize) -> Result<StagedRows, LakeError> {
    let rows: u64 = files_of(live).map(|(_, staged)| staged.file.rows).sum();
    let mut without = StagedRows::default();
    for pass in Pass::all(rows, at_a_time) {
        let (mut seen, mut repeated) = (HashSet::new(), HashSet::new());
        for (_, staged) in files_of(live) {
            each_id(&staged.file.path, |_, id| {
                if pass.has(id) && !seen.insert(id) {
                    repeated.insert(id);
                }
            })?;
        }
        drop(seen);
        fold(live, &repeated, |place| without.insert(place))?;
    }
    Ok(without)
}

/// The staged files of `live`, in the order of the uploads, each with where it stands.
fn files_of(live: &[LiveUpload]) -> impl Iterator<Item = ((usize, usize), &StagedFile)> {
    live.iter()
        .enumerate()
        .flat_map(|(upload, live)| live.files.iter().enumerate().map(move |(file, staged)| ((upload, file), staged)))
}

/// Finds, for each of `ids`, the row that the fold over `live` leaves.
fn find_winners(live: &[LiveUpload], ids: &mut HashMap<u128, Option<Place>>) -> Result<(), LakeError> {
    let mut repeated = HashSet::new();
    for ((upload, file), staged) in files_of(live) {
        each_id(&staged.file.path, |row, id| match ids.get_mut(&id) {
            Some(winner @ None) => *winner = Some(Place { upload, file, row }),
            Some(Some(_)) => {
                repeated.insert(id);
            }
            None => {}
        })?;
    }
    for (id, place) in fold(live, &repeated, |_| {})? {
        ids.insert(id, Some(place));
    }
    Ok(())
}

/// The fold itself, for IDs that stand in several uploads: the row that is left of each. Those that are not are told.
fn fold(
    live: &[LiveUpload],
    ids: &HashSet<u128>,
    mut loses: impl FnMut(Place),
) -> Result<HashMap<u128, Place>, LakeError> {
    let mut winners: HashMap<u128, (u64, Place)> = HashMap::new();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    for ((upload, file), staged) in files_of(live) {
        let rows = rows_of(&staged.file.path, |id| ids.contains(&id))?;
        if rows.count() == 0 {
            continue;
        }
        each_identity(&staged.file.path, &rows, |row, there| {
            let place = Place { upload, file, row };
            match winners.get(&there.id) {
                Some((content, _)) if *content == there.content => loses(place),
                _ => {
                    if let Some((_, before)) = winners.insert(there.id, (there.content, place)) {
                        loses(before);
                    }
                }
            }
        })?;
    }
    Ok(winners.into_iter().map(|(id, (_, place))| (id, place)).collect())
}

/// How the lake differs from the fold.
#[derive(Default)]
struct Changes {
    /// By the path of a file of the lake.
    leaving: HashMap<String, RowSet>,
    coming: StagedRows,
    /// Rows that leave for another one of their ID.
    replaced: u64,
}

impl Changes {
    /// Compares the rows of a file of the lake with the winners of their IDs. An upload has an ID once, so a row is the
    /// winner if it is of the winner's upload; then it stays, and its ID is done with.
    fn compare(
        &mut self,
        root: &Path,
        lake_file: &LakeFile,
        live: &[LiveUpload],
        ids: &mut HashMap<u128, Option<Place>>,
    ) -> Result<(), LakeError> {
        let path = root.join(&lake_file.path);
        let rows = rows_of(&path, |id| ids.contains_key(&id))?;
        if rows.count() == 0 {
            return Ok(());
        }
        let leaving = self.leaving.entry(lake_file.path.clone()).or_default();
        let mut numbers = rows.iter();
        let part = Part { columns: Some(&["payment_id", "upload_id"]), rows: Some(&rows) };
        for batch in file::read(&path, part)? {
            let batch = batch?;
            let column = batch.column_by_name("upload_id");
            let column = column.ok_or_else(|| LakeError::Layout("a file has no column upload_id".to_owned()))?;
            let uploads = cast(column, &DataType::Utf8)?;
            let uploads = uploads.as_string::<i32>().iter();
            for ((id, upload), row) in payment_ids(&batch)?.into_iter().zip(uploads).zip(numbers.by_ref()) {
                match ids.get(&id) {
                    Some(Some(winner)) if upload == Some(live[winner.upload].upload.as_str()) => {
                        ids.remove(&id);
                    }
                    Some(winner) => {
                        self.replaced += u64::from(winner.is_some());
                        leaving.insert(row);
                    }
                    None => {}
                }
            }
        }
        if leaving.count() == 0 {
            self.leaving.remove(&lake_file.path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::PathBuf,
    };

    use arrow::array::{Array, ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ids::Month,
        lake::{place, write},
        payments::schema::{AMOUNT_PRECISION, AMOUNT_SCALE, FILE_SCHEMA},
    };

    /// A payment: its ID, its amount, and the month of 2024 that it is in.
    type Payment = (u8, i128, u32);

    fn month(number: u32) -> Month {
        format!("2024-{number:02}").parse().unwrap()
    }

    fn batch(upload: &UploadId, payments: &[Payment]) -> RecordBatch {
        let column = |name: &str| -> ArrayRef {
            let text =
                |value: fn(&Payment) -> String| Arc::new(StringArray::from_iter_values(payments.iter().map(value)));
            let amounts = || Decimal128Array::from_iter_values(payments.iter().map(|payment| payment.1));
            match name {
                "payment_id" => text(|payment| payment.0.to_string()),
                "upload_id" => Arc::new(StringArray::from_iter_values(payments.iter().map(|_| upload.as_str()))),
                "amount" => Arc::new(amounts().with_precision_and_scale(AMOUNT_PRECISION, AMOUNT_SCALE).unwrap()),
                "paid_at" => {
                    let at = payments.iter().map(|payment| month(payment.2).start_micros());
                    Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC"))
                }
                "transaction_charges" => arrow::array::new_null_array(&crate::payments::schema::AMOUNT, payments.len()),
                _ => text(|_| "x".to_owned()),
            }
        };
        let columns = FILE_SCHEMA.fields().iter().map(|field| column(field.name())).collect();
        RecordBatch::try_new(FILE_SCHEMA.clone(), columns).unwrap()
    }

    /// A project's lake, its uploads in the order in which they landed, and which of them count.
    struct Project {
        folder: tempfile::TempDir,
        slug: ProjectSlug,
        snapshot: Snapshot,
        uploads: Vec<(LiveUpload, Vec<Payment>, bool)>,
    }

    impl Project {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder, slug: "hill".parse().unwrap(), snapshot: Snapshot::default(), uploads: Vec::new() }
        }

        fn root(&self) -> PathBuf {
            self.folder.path().join("lake")
        }

        fn live(&self) -> Vec<LiveUpload> {
            self.uploads.iter().filter(|(.., counts)| *counts).map(|(upload, ..)| upload.clone()).collect()
        }

        fn upload(&mut self, payments: &[Payment]) -> Placement {
            let upload = UploadId::new();
            let months: BTreeSet<u32> = payments.iter().map(|payment| payment.2).collect();
            let files = months.into_iter().map(|number| {
                let rows: Vec<Payment> = payments.iter().copied().filter(|payment| payment.2 == number).collect();
                let path = self.folder.path().join(upload.as_str()).join(format!("{number}.parquet"));
                StagedFile { month: month(number), file: write(&path, vec![batch(&upload, &rows)]).unwrap() }
            });
            let files: Vec<StagedFile> = files.collect();
            let placed =
                place(&self.root(), &self.snapshot, &self.slug, &(&upload).into(), &files, &Meters::none()).unwrap();
            self.commit(&placed);
            self.uploads.push((LiveUpload { upload, files }, payments.to_vec(), true));
            placed
        }

        /// Deletes the uploads, or brings those of them back that are deleted.
        fn turn(&mut self, which: &[usize], at_a_time: usize) -> Placement {
            let mut affected = Vec::new();
            for index in which {
                let (upload, _, counts) = &mut self.uploads[*index];
                affected.extend(upload.files.iter().cloned());
                *counts = !*counts;
            }
            let root = self.root();
            let moves = Moves {
                root: &root,
                snapshot: &self.snapshot,
                project: &self.slug,
                meters: &Meters::none(),
                leaving: &HashMap::new(),
            };
            let placed = refold_in_passes(&moves, &ChangeId::new(), &affected, &self.live(), at_a_time).unwrap();
            self.commit(&placed);
            placed
        }

        fn commit(&mut self, placed: &Placement) {
            self.snapshot = self.snapshot.after(self.snapshot.version + 1, &placed.removed, &placed.added);
        }

        /// What the lake has: by ID, the upload, amount and month, and whether the row is in the folder of its month.
        fn rows(&self, snapshot: &Snapshot) -> BTreeMap<u8, (UploadId, i128, u32)> {
            let mut rows = BTreeMap::new();
            for lake_file in snapshot.project_files(&self.slug) {
                let mut count = 0;
                for batch in file::read(&self.root().join(&lake_file.path), Part::default()).unwrap() {
                    let batch = batch.unwrap();
                    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
                    let (ids, uploads) = (column("payment_id"), column("upload_id"));
                    let amounts = column("amount");
                    for row in 0..batch.num_rows() {
                        let text = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
                        let number = (1..13).find(|number| month(*number) == lake_file.month).unwrap();
                        let amount = amounts.as_any().downcast_ref::<Decimal128Array>().unwrap().value(row);
                        let content = (text(&uploads).parse().unwrap(), amount, number);
                        assert!(rows.insert(text(&ids).parse().unwrap(), content).is_none(), "an ID is there once");
                        count += 1;
                    }
                }
                assert_eq!(lake_file.rows, count);
            }
            rows
        }

        /// What it should have.
        fn model(&self) -> BTreeMap<u8, (UploadId, i128, u32)> {
            let mut rows: BTreeMap<u8, (UploadId, i128, u32)> = BTreeMap::new();
            for (upload, payments, _) in self.uploads.iter().filter(|(.., counts)| *counts) {
                for (id, amount, month) in payments {
                    match rows.get(id) {
                        Some((_, there, when)) if (there, when) == (amount, month) => {}
                        _ => drop(rows.insert(*id, (upload.upload.clone(), *amount, *month))),
                    }
                }
            }
            rows
        }

        /// What is on disk of the lake and belongs to no version that was made here.
        fn rebuilt(&self, at_a_time: usize) -> Snapshot {
            let root = self.root();
            let empty = Snapshot::default();
            let moves = Moves {
                root: &root,
                snapshot: &empty,
                project: &self.slug,
                meters: &Meters::none(),
                leaving: &HashMap::new(),
            };
            let placed = rebuild_in_passes(&moves, &ChangeId::new(), &self.live(), at_a_time).unwrap();
            empty.after(1, &[], &placed.added)
        }
    }

    fn counts(placed: &Placement) -> [u64; 3] {
        [placed.new, placed.corrected, placed.withdrawn]
    }

    #[test]
    fn a_deleted_upload_gives_back_what_it_had_corrected_and_its_duplicates_pass_to_another() {
        let mut project = Project::new();
        project.upload(&[(1, 10, 5), (2, 20, 5), (3, 30, 5)]);
        project.upload(&[(1, 11, 6), (2, 20, 5), (4, 40, 7)]);
        let july = project.snapshot.clone();
        assert_eq!(counts(&project.turn(&[1], 100)), [0, 1, 1]);
        assert_eq!(project.rows(&project.snapshot), project.model());
        assert!(project.snapshot.partition(&project.slug, month(7)).is_empty());
        assert_eq!(counts(&project.turn(&[1], 100)), [1, 1, 0]);
        assert_eq!(project.rows(&project.snapshot), project.rows(&july));
        // The first goes: its duplicate is now the second's row, and 3 is nobody's.
        assert_eq!(counts(&project.turn(&[0], 100)), [0, 1, 1]);
        assert_eq!(project.rows(&project.snapshot), project.model());
        assert_eq!(counts(&project.turn(&[1], 100)), [0, 0, 3]);
        assert!(project.snapshot.partitions.is_empty());
        let placed = project.turn(&[0, 1], 100);
        assert_eq!((counts(&placed), project.rows(&project.snapshot)), ([4, 0, 0], project.model()));
    }

    #[test]
    fn months_in_which_nothing_changes_keep_their_files_and_a_whole_file_is_linked() {
        let mut project = Project::new();
        project.upload(&[(1, 10, 5), (2, 20, 6)]);
        project.upload(&[(3, 10, 5), (4, 20, 7)]);
        let may = project.snapshot.partition(&project.slug, month(5)).to_vec();
        let placed = project.turn(&[1], 100);
        assert!(placed.added.is_empty(), "both files go whole");
        assert_eq!(project.snapshot.partition(&project.slug, month(5)), &may[..1]);
        let placed = project.turn(&[1], 100);
        assert!(placed.removed.is_empty());
        let staged: Vec<_> = project.uploads[1].0.files.iter().map(|staged| staged.file.sha256).collect();
        assert_eq!(placed.added.iter().map(|file| file.sha256).collect::<Vec<_>>(), staged);
        let rebuilt = rebuild(
            &project.root(),
            &project.snapshot,
            &project.slug,
            &ChangeId::new(),
            &project.live(),
            &Meters::none(),
        )
        .unwrap();
        assert_eq!((rebuilt.removed.len(), rebuilt.added.len(), counts(&rebuilt)), (4, 4, [4, 0, 0]));
    }

    fn steps() -> impl Strategy<Value = Vec<(Vec<Payment>, Vec<prop::sample::Index>, usize)>> {
        let rows = prop::collection::btree_map(0..8u8, (1..3i128, 5..8u32), 1..6);
        let rows = rows.prop_map(|rows| rows.into_iter().map(|(id, (amount, month))| (id, amount, month)).collect());
        let turned = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
        prop::collection::vec((rows, turned, prop::sample::select(vec![1, 2, 3, 100])), 1..10)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn uploads_that_come_and_go_in_any_order_leave_what_their_fold_gives(steps in steps()) {
            let mut project = Project::new();
            for (payments, turned, at_a_time) in steps {
                project.upload(&payments);
                let turned: BTreeSet<usize> = turned.iter().map(|index| index.index(project.uploads.len())).collect();
                project.turn(&turned.into_iter().collect::<Vec<_>>(), at_a_time);
                let model = project.model();
                prop_assert_eq!(&project.rows(&project.snapshot), &model);
                prop_assert_eq!(&project.rows(&project.rebuilt(at_a_time)), &model);
            }
        }
    }
}
