//! Steps of an image.

use crate::transform::{
    compile::InputCompiler,
    declaration::DeclarationError,
    field_plan::FieldPlan,
    field_source::FieldSource,
    image::{ImageStep, ImageSteps},
    steps::{Layout, PreprocessStep},
};

impl InputCompiler<'_> {
    pub(super) fn image(
        &self,
        source: FieldSource,
        steps: &[PreprocessStep],
    ) -> Result<FieldPlan, DeclarationError> {
        let Some((PreprocessStep::DecodeImage { mode }, rest)) = steps.split_first() else {
            return self.fail(
                "/steps",
                "base64 content needs decode_image as its first step",
            );
        };
        let mut compiled = ImageSteps {
            mode: *mode,
            after: Vec::new(),
            layout: Layout::Nhwc,
        };
        for (index, step) in (1..).zip(rest) {
            let below = format!("/steps/{index}");
            match step {
                PreprocessStep::Layout(layout) if index == rest.len() => compiled.layout = *layout,
                PreprocessStep::Layout(_) => return self.fail(&below, "must be the last step"),
                step => {
                    let step = self.image_step(step, &compiled, &below)?;
                    compiled.after.push(step);
                }
            }
        }
        Ok(FieldPlan::Image {
            source,
            steps: compiled,
        })
    }

    /// Checks a step that follows the steps in `before`.
    fn image_step(
        &self,
        step: &PreprocessStep,
        before: &ImageSteps,
        below: &str,
    ) -> Result<ImageStep, DeclarationError> {
        // Resizing and cropping change 8-bit pixels, like in Pillow. Rescale and normalize convert
        // the pixels to float64.
        let is_pixels = before.after.iter().all(|step| {
            matches!(
                step,
                ImageStep::Resize { .. } | ImageStep::CenterCrop { .. }
            )
        });
        Ok(match step {
            PreprocessStep::Resize {
                height,
                width,
                interpolation,
            } if *height > 0 && *width > 0 && is_pixels => ImageStep::Resize {
                height: *height,
                width: *width,
                interpolation: *interpolation,
            },
            PreprocessStep::CenterCrop { height, width }
                if *height > 0 && *width > 0 && is_pixels =>
            {
                ImageStep::CenterCrop {
                    height: *height,
                    width: *width,
                }
            }
            PreprocessStep::Resize { .. } | PreprocessStep::CenterCrop { .. } => {
                return self.fail(
                    below,
                    "sizes must be at least 1, and come before rescale and normalize",
                );
            }
            PreprocessStep::Rescale { factor } if factor.is_finite() => ImageStep::Rescale(*factor),
            PreprocessStep::Normalize { mean, std } => {
                let channels = before.channels();
                if mean.len() != channels || std.len() != channels {
                    let detail = format!("mean and std need {channels} values, one per channel");
                    return self.fail(below, detail);
                }
                if std.iter().any(|std| *std == 0.0 || !std.is_finite()) {
                    return self.fail(&format!("{below}/normalize/std"), "must not be 0");
                }
                ImageStep::Normalize {
                    mean: mean.clone(),
                    std: std.clone(),
                }
            }
            _ => return self.fail(below, "this step does not take an image"),
        })
    }
}
