//! Groups are made file by file. A file of the lake never changes, so what a metric makes of it is worked out once: its
//! partial aggregates are kept, and a question about another period, more projects or a later version of the lake reads the
//! files that are new to it, and no others.
//!
//! [`FileByFile`] is a rule over physical plans. Where a partial aggregate stands over scans of files, it is restated as what
//! is asked of one file ([`Question`]), for which a file's project and time zone are constants; [`ByFileExec`] answers it from
//! what is known ([`Partials`]) and from the files.

mod asked;
mod exec;
mod partials;
mod question;
mod steps;

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, aggregates::AggregateExec},
};

use exec::ByFileExec;
pub(super) use partials::Partials;
use question::Question;

/// The rule. It comes last: others would not look into what it makes.
#[derive(Debug)]
pub(super) struct FileByFile {
    partials: Arc<Partials>,
}

impl FileByFile {
    pub(super) fn new(partials: &Arc<Partials>) -> Self {
        Self { partials: Arc::clone(partials) }
    }

    fn restated(&self, node: Arc<dyn ExecutionPlan>, partitions: usize) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        let Some(aggregate) = node.downcast_ref::<AggregateExec>() else {
            return Ok(Transformed::no(node));
        };
        let Some(questions) = Question::of(aggregate)? else {
            return Ok(Transformed::no(node));
        };
        let by_file = ByFileExec::new(aggregate, questions, &self.partials, partitions)?;
        Ok(Transformed::new(Arc::new(by_file), true, TreeNodeRecursion::Jump))
    }
}

impl PhysicalOptimizerRule for FileByFile {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| self.restated(node, config.execution.target_partitions)).data()
    }

    fn name(&self) -> &'static str {
        "file_by_file"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
